-- Runs cells of Lua: requests come on descriptor 3, events go to 4 (see talk.py).
--
-- Rule 1: the standalone interpreter hears SIGINT once in each chunk that it runs, and would
-- die of the second. So it is started with many chunks, `-e`, each of which calls `S`; an
-- interrupt ends one, and the next goes on. See the row in languages/lua.py.
-- Rule 2: what a cell declares `local` outside of every block becomes a global, so that it
-- lives on; lines stay where they are.
-- Rule 3: Lua cannot move descriptors: children are started by a shell that redirects itself.
-- Rule 4: this runs on Lua 5.1 to 5.4 and LuaJIT.

local load_text = loadstring or load
local unpack = table.unpack or unpack
local open, popen, execute, exit, getenv = io.open, io.popen, os.execute, os.exit, os.getenv
local concat, insert, sort = table.concat, table.insert, table.sort
local pcall, xpcall, error, type, tostring, rawget = pcall, xpcall, error, type, tostring, rawget
local pairs, ipairs, next, select, tonumber = pairs, ipairs, next, select, tonumber
local getmetatable, traceback, getinfo = getmetatable, debug.traceback, debug.getinfo
local sub, find, match, gsub, gmatch, rep = string.sub, string.find, string.match, string.gsub, string.gmatch, string.rep
local stdin, stdout, stderr = io.stdin, io.stdout, io.stderr
local current_input, current_output = io.input, io.output
local globals = _G

local adapter = getenv("SANDBOX_ADAPTER") or "self"
local requests = open("/proc/self/fd/3", "rb")
local events = open("/proc/self/fd/4", "wb")
if not (requests and events) then exit(70) end
events:setvbuf("full", 65536)

local raw = {}  -- the methods of files before they were replaced
for name, method in pairs(getmetatable(stdout).__index) do raw[name] = method end
local write_raw, read_raw, flush_raw = raw.write, raw.read, raw.flush

local is_owed = false   -- the answer of a cell that was interrupted
local is_busy = false   -- between the header of a request and its answer
local name = "Cell"
local rest = ""         -- of an answer that was read in part
local ended = {}        -- what `os.exit` throws, with its code
local results = {n = 0}

-- talking

local function emit(kind, argument, payload)
  payload = payload or ""
  -- One call of C: an interrupt comes before or after it.
  if not write_raw(events, kind, " ", argument or "-", " ", #payload, "\n", payload) then exit(70) end
  if not flush_raw(events) then exit(70) end
end

-- A line or a number of bytes. A signal breaks reading off; only the end of the pipe is nil.
local function read_piece(what)
  while true do
    local piece, problem = read_raw(requests, what)
    if piece then return piece end
    if not problem then exit(0) end
  end
end

local function receive()
  local header = read_piece("*l")
  is_busy = true
  local kind, argument, length = match(header, "^(%S+) (%S+) (%d+)$")
  length = tonumber(length)
  return kind, argument, length == 0 and "" or read_piece(length)
end

-- The answer of whoever sits at the front end, or nil for the end of file.
local function ask(prompt, is_password)
  emit("input", is_password and "1" or "0", prompt or "")
  local _, argument, text = receive()
  if argument ~= "ok" then error("This client cannot answer questions.", 0) end
  if text ~= "\4" then return text end
end

-- values

local function is_word(key) return type(key) == "string" and find(key, "^[%a_][%w_]*$") end

local function keys_of(values)
  local keys = {}
  for key in next, values do keys[#keys + 1] = key end
  sort(keys, function(a, b)
    if type(a) == type(b) and (type(a) == "number" or type(a) == "string") then return a < b end
    return type(a) == "number" or type(b) ~= "number" and tostring(a) < tostring(b)
  end)
  return keys
end

local function quoted(text) return (gsub(string.format("%q", text), "\\\n", "\\n")) end

local function has_own_text(value)
  local meta = getmetatable(value)
  return type(meta) == "table" and (rawget(meta, "__tostring") or rawget(meta, "__name"))
end

local told
local function told_table(value, indent, seen)
  if seen[value] then return "{...}" end
  if #indent > 24 then return "{...}" end
  seen[value] = true
  local parts, count, inner = {}, #value, indent .. "  "
  for index = 1, count > 1000 and 1000 or count do parts[index] = told(value[index], inner, seen) end
  for _, key in ipairs(keys_of(value)) do
    if #parts > 1000 then parts[#parts + 1] = "..." break end
    local is_item = type(key) == "number" and key >= 1 and key <= count and key % 1 == 0
    if not is_item then
      local shown = is_word(key) and key or "[" .. told(key, inner, seen) .. "]"
      parts[#parts + 1] = shown .. " = " .. told(rawget(value, key), inner, seen)
    end
  end
  seen[value] = nil
  local line = concat(parts, ", ")
  if #line < 80 and not find(line, "\n") then return "{" .. line .. "}" end
  return "{\n" .. inner .. concat(parts, ",\n" .. inner) .. "\n" .. indent .. "}"
end

function told(value, indent, seen)
  if type(value) == "string" then return quoted(value) end
  if type(value) ~= "table" or has_own_text(value) then return tostring(value) end
  return told_table(value, indent, seen)
end

-- As the interpreter prints a result, but tables with what is in them.
local function text_of(value)
  return type(value) == "string" and value or told(value, "", {})
end

local methods = {
  {"text/html", "to_html"}, {"image/svg+xml", "to_svg"}, {"image/png", "to_png"},
  {"image/jpeg", "to_jpeg"}, {"text/latex", "to_latex"}, {"text/markdown", "to_markdown"},
}

local function send_forms(value)
  emit("data", "text/plain", text_of(value))
  if type(value) ~= "table" then return end
  for _, pair in ipairs(methods) do
    local method = value[pair[2]]
    if type(method) == "function" then emit("data", pair[1], tostring(method(value))) end
  end
end

-- what cells print and read

local function print(...)
  local parts = {}
  for index = 1, select("#", ...) do parts[index] = tostring((select(index, ...))) end
  emit("out", "-", concat(parts, "\t") .. "\n")
end

local function write(kind, ...)
  local parts = {...}
  for index = 1, select("#", ...) do
    if type(parts[index]) ~= "string" and type(parts[index]) ~= "number" then
      error("bad argument #" .. index .. " to 'write' (string expected, got " .. type(parts[index]) .. ")", 3)
    end
  end
  local text = concat(parts)
  if text ~= "" then emit(kind, "-", text) end
end

-- Nobody can press Ctrl-D in a notebook: one answer is all there is.
local function fill()
  if rest == "" then
    local text = ask("")
    rest = text and text .. "\n" or ""
  end
  return rest ~= ""
end

local function read_one(format)
  if type(format) == "number" then
    if format > 0 and not fill() then return nil end
    local text = sub(rest, 1, format)
    rest = sub(rest, format + 1)
    return text
  end
  local letter = match(format, "^%*?(%a)")
  local is_there = fill()
  if letter == "a" then
    local text = rest
    rest = ""
    return text
  end
  if not is_there then return nil end
  if letter == "n" then
    local text, after = match(rest, "^%s*([%w.+-]+)()")
    rest = after and sub(rest, after) or rest
    if rest == "\n" then rest = "" end
    return tonumber(text)
  end
  local line, after = match(rest, "^([^\n]*)\n()")
  rest = sub(rest, after)
  return letter == "L" and line .. "\n" or line
end

local function read(...)
  if select("#", ...) == 0 then return read_one("l") end
  local values, count = {}, select("#", ...)
  for index, format in ipairs({...}) do values[index] = read_one(format) end
  return unpack(values, 1, count)
end

local function replace_files()
  local files = getmetatable(stdout).__index
  function files.write(file, ...)
    if file == stdout then write("out", ...) return file end
    if file == stderr then write("err", ...) return file end
    return write_raw(file, ...)
  end
  function files.read(file, ...)
    if file == stdin then return read(...) end
    return read_raw(file, ...)
  end
  function files.lines(file, ...)
    if file ~= stdin then return raw.lines(file, ...) end
    local formats = {...}
    return function() return read(unpack(formats)) end
  end
  function files.close(file, ...)
    if file == stdout or file == stderr or file == stdin then return true end
    return raw.close(file, ...)
  end
  local lines = io.lines
  io.write = function(...) return files.write(current_output(), ...) end
  io.read = function(...) return files.read(current_input(), ...) end
  io.lines = function(file, ...)
    if file == nil and current_input() == stdin then return files.lines(stdin, ...) end
    return lines(file, ...)
  end
  globals.print = print
end

-- children

local environment = ""  -- what `attach` adds to theirs

local function redirected(command, is_out, is_err)
  local base = "/proc/" .. adapter .. "/fd/"
  local words = {environment, "exec 3<&- 4>&- 5<&- 6>&-"}
  if is_out then words[#words + 1] = ">" .. base .. "1" end
  if is_err then words[#words + 1] = "2>" .. base .. "2" end
  return concat(words, " ") .. "\n" .. command
end

local function replace_children()
  os.execute = function(command)
    if command == nil then return execute() end
    local status, how, code = execute(redirected(command, true, true))
    -- Waiting for a child, Lua doesn't hear of the interrupt that ended it.
    if how == "signal" and code == 2 or status == 2 then error("interrupted!", 0) end
    return status, how, code
  end
  io.popen = function(command, mode)
    return popen(redirected(command, mode and find(mode, "w"), true), mode)
  end
  os.exit = function(code)
    ended.code = code == nil and 0 or code == true and 0 or code == false and 1 or code
    error(ended, 0)
  end
end

-- reading code

local keywords = "and break do else elseif end false for function goto if in local nil not or repeat return then true until while"
local opening = {["function"] = true, ["do"] = true, ["then"] = true, ["repeat"] = true, ["{"] = true, ["("] = true, ["["] = true}
local closing = {["end"] = true, ["until"] = true, ["elseif"] = true, ["}"] = true, [")"] = true, ["]"] = true}

-- Calls `visit(text, first, last)` for each token that is no space, comment or string.
local function each_token(code, visit)
  local at = 1
  while at <= #code do
    local first, last = find(code, "^%s+", at)
    local equals = first == nil and match(code, "^%-%-%[(=*)%[", at) or nil
    local long = first == nil and not equals and match(code, "^%[(=*)%[", at) or nil
    if first then
      at = last + 1
    elseif equals or long then
      local _, stop = find(code, "]" .. (equals or long) .. "]", at, true)
      if long then visit('"', at, stop or #code) end
      at = (stop or #code) + 1
    elseif sub(code, at, at + 1) == "--" then
      at = (find(code, "\n", at, true) or #code) + 1
    elseif find(code, "^[\"']", at) then
      local quote, stop = sub(code, at, at), at + 1
      while stop <= #code and sub(code, stop, stop) ~= quote do
        stop = stop + (sub(code, stop, stop) == "\\" and 2 or 1)
      end
      visit('"', at, stop)
      at = stop + 1
    else
      first, last = find(code, "^[%a_][%w_]*", at)
      if not first then first, last = find(code, "^%d[%w.]*", at) end
      if not first then first, last = at, at end
      visit(sub(code, first, last), first, last)
      at = last + 1
    end
  end
end

local function tokens_of(code)
  local tokens, depth = {}, 0
  each_token(code, function(text, first, last)
    if closing[text] then depth = depth - 1 end
    tokens[#tokens + 1] = {text = text, first = first, last = last, depth = depth}
    if opening[text] or text == "else" then depth = depth + (text == "else" and 0 or 1) end
  end)
  return tokens
end

-- The names after a `local`, and the index of the token after them; nil for `<close>`.
local function names_after(tokens, index)
  local names, position = {}, index + 1
  while tokens[position] do
    names[#names + 1] = tokens[position].text
    position = position + 1
    if tokens[position] and tokens[position].text == "<" then
      local attribute = tokens[position + 1]
      if attribute and attribute.text == "close" then return nil end
      position = position + 3
    end
    if not tokens[position] or tokens[position].text ~= "," then break end
    position = position + 1
  end
  return names, position
end

-- Replaces the text of tokens `first` to `last`, and keeps its line breaks.
local function with(code, from, to, text)
  local _, breaks = gsub(sub(code, from, to), "\n", "")
  return sub(code, 1, from - 1) .. text .. rep("\n", breaks) .. sub(code, to + 1)
end

-- The code without `local` outside of blocks.
local function without_locals(code)
  if not find(code, "local", 1, true) then return code end
  local tokens = tokens_of(code)
  for index = #tokens, 1, -1 do
    local token = tokens[index]
    local following = tokens[index + 1]
    if token.text == "local" and token.depth == 0 and following then
      if following.text == "function" then
        code = with(code, token.first, following.first - 1, "")
      elseif is_word(following.text) and following.text ~= "_ENV" then
        local names, position = names_after(tokens, index)
        if names then
          local is_set = tokens[position] and tokens[position].text == "="
          local last = tokens[position - 1].last
          code = with(code, token.first, last, concat(names, ", ") .. (is_set and "" or " = nil;"))
        end
      end
    end
  end
  return code
end

local reserved = {}
for keyword in gmatch(keywords, "%a+") do reserved[keyword] = true end

-- Where the last statement may begin: a name at the start of a line, outside of every block.
local function last_start(code)
  local tokens = tokens_of(code)
  for index = #tokens, 1, -1 do
    local token = tokens[index]
    local is_name = token.depth == 0 and is_word(token.text) and not reserved[token.text]
    if is_name and find(sub(code, 1, token.first - 1), "\n[ \t]*$") then return token.first end
  end
end

-- As arguments of a call, since a call that is returned itself would leave no frame of the cell.
local function returning(code, start, chunk)
  local value = gsub(sub(code, start), ";?%s*$", "")
  return load_text(sub(code, 1, start - 1) .. "return (...)(" .. value .. "\n)", chunk)
end

-- Without the last statement the code is whole, but the whole is not: is it an expression?
local function compile_rest(code, chunk)
  local starts = {}
  for start in gmatch(code, "\n()") do insert(starts, 1, start) end
  for index = 1, #starts < 30 and #starts or 30 do
    local found = returning(code, starts[index], chunk)
    if found then return found end
  end
end

-- A function that runs the code: an expression, or statements that may end with one. It wants
-- a function that gives back what it is given.
local function compile(code)
  local chunk = "=" .. name
  local plain = gsub(code, "^#![^\n]*", "")
  local found = returning(plain, 1, chunk)
  if found and find(plain, "%S") then return found end
  plain = without_locals(plain)
  local statements, problem = load_text(plain, chunk)
  if not statements then return compile_rest(plain, chunk), problem end
  local start = last_start(plain)
  local ending = start and returning(plain, start, chunk)
  return ending or function() return statements() end
end

-- errors

local function frame_name(text)
  return (find(text, "'chunk'$") or find(text, "'statements'$")) and "in the cell" or nil
end

-- The frames of cells, from the innermost on: ours begin with the outermost `xpcall`.
local function clean_trace(text)
  local lines, count = {}, nil
  for line in gmatch(text, "\n(%s[^\n]+)") do
    if find(line, "'xpcall'", 1, true) then count = #lines end
    local is_ours = find(line, "lua.lua:", 1, true) or find(line, "in function 'error'", 1, true)
      or find(line, "(...tail calls...)", 1, true) or find(line, "_raw'", 1, true)
      or find(line, "'pcall'", 1, true) or find(line, "(tail call)", 1, true)
    line = gsub(gsub(line, "in %w+ '%w+'$", frame_name), "in main chunk$", "in the cell")
    if not is_ours then lines[#lines + 1] = line end
  end
  return {unpack(lines, 1, count and count < 60 and count or 60)}
end

local failure  -- of the cell that runs: {message, trace lines}
local function note_failure(problem)
  if problem == ended then
    failure = {"SystemExit", "exit " .. tostring(ended.code), {}}
    return
  end
  local is_text = type(problem) == "string" or type(problem) == "number"
  local message = is_text and tostring(problem) or text_of(problem)
  if find(message, "interrupted!", 1, true) and is_text then
    failure = {"Interrupted", "The cell was interrupted.", clean_trace(traceback("", 2))}
  else
    failure = {"Error", message, clean_trace(traceback("", 2))}
  end
end

local function report()
  local kind, message, lines = failure[1], failure[2], failure[3]
  emit("ename", "-", kind)
  emit("evalue", "-", message)
  emit("trace", "-", kind == "Error" and message or kind .. ": " .. message)
  if #lines < 2 and kind == "Error" then return end  -- no more than the message says
  for _, line in ipairs(lines) do emit("trace", "-", line) end
end

-- cells

local function keep(...)
  results = {n = select("#", ...), ...}
end

local function pass(...) return ... end

local function show(how)
  if results.n == 0 then return end
  local is_nothing = results.n == 1 and (results[1] == nil or results[1] == stdout)
  if how == "result" and is_nothing then return end
  if results.n == 1 then
    send_forms(results[1])
  else
    local parts = {}
    for index = 1, results.n do parts[index] = text_of(results[index]) end
    emit("data", "text/plain", concat(parts, "\t"))
  end
  if how == "result" then emit("result") end
end

local function run(code, how)
  failure, results = nil, {n = 0}
  local chunk, problem = compile(code)
  if not chunk then
    failure = {"SyntaxError", tostring(problem), {}}
  else
    xpcall(function()
      keep(chunk(pass))
      if how then show(how) end
    end, note_failure)
  end
  local is_fine = failure == nil or failure[1] == "SystemExit" and ended.code == 0
  if not is_fine then report() end
  -- Told by the next chunk, which hears signals again.
  is_owed = failure ~= nil and failure[1] == "Interrupted"
  if not is_owed then emit("done", is_fine and "ok" or "error") end
end

local handlers = {}

function handlers.execute(argument, code)
  local _, count, silent = match(argument, "^(%d+),(%d+),(%d)")
  name = "Cell[" .. count .. "]"
  run(code, silent == "0" and "result" or nil)
end

function handlers.evaluate(_, code)
  run(code, "evaluate")
end

function handlers.check(_, code)
  local chunk, problem = compile(code)
  if chunk then return emit("checked", "complete") end
  local _, other = load_text("return " .. code)  -- what is wrong with it as an expression
  local is_unfinished = find(problem .. "\n" .. (other or "") .. "\n", "near '?<eof>'?\n")
  if not is_unfinished and not find(problem, "unfinished long", 1, true) then
    return emit("checked", "invalid")
  end
  local last = ""
  for line in gmatch(code, "[^\n]+") do if find(line, "%S") then last = line end end
  local is_opening = find(last, "then%s*$") or find(last, "do%s*$") or find(last, "else%s*$")
    or find(last, "repeat%s*$") or find(last, "[{(]%s*$") or find(last, "function.*%)%s*$")
  emit("checked", "incomplete", match(last, "^%s*") .. (is_opening and "  " or ""))
end

-- completion and inspection: fields are looked up without calling anything

local function field(value, key)
  if type(value) == "string" then return string[key] end
  if type(value) ~= "table" then
    local meta = getmetatable(value)
    local index = type(meta) == "table" and rawget(meta, "__index")
    return type(index) == "table" and rawget(index, key) or nil
  end
  local found = rawget(value, key)
  local meta = getmetatable(value)
  local index = type(meta) == "table" and rawget(meta, "__index")
  if found == nil and type(index) == "table" and index ~= value then return field(index, key) end
  return found
end

local function resolve(path)
  local value = globals
  for key in gmatch(path, "[%w_]+") do
    value = field(value, key)
    if value == nil then return nil end
  end
  return value
end

local function collect(found, value, depth)
  if type(value) == "string" then value = string end
  if type(value) == "table" then
    for key, item in next, value do
      if is_word(key) then found[key] = type(item) == "function" and "function" or "variable" end
    end
  end
  local meta = getmetatable(value)
  local index = type(meta) == "table" and rawget(meta, "__index")
  if type(index) == "table" and depth < 10 then collect(found, index, depth + 1) end
end

function handlers.complete(argument, code)
  local offset = tonumber(argument)
  local path, word = match(sub(code, 1, offset), "([%w_.:]-)([%w_]*)$")
  local found = {}
  if path == "" and word ~= "" then
    for keyword in gmatch(keywords, "%a+") do found[keyword] = "keyword" end
    collect(found, globals, 0)
  elseif find(path, "^[%a_]") then
    collect(found, resolve(path), 0)
  end
  for _, key in ipairs(keys_of(found)) do
    if sub(key, 1, #word) == word then emit("match", found[key], key) end
  end
  emit("completed", offset - #word)
end

local function describe(value, path)
  if type(value) ~= "function" then return type(value) .. "\n" .. text_of(value) end
  local info, parameters = getinfo(value, "Su"), {}
  for index = 1, info.nparams or 0 do parameters[index] = debug.getlocal(value, index) end
  if info.isvararg or info.what == "C" then parameters[#parameters + 1] = "..." end
  local place = info.what == "C" and "Built in" or "Defined at " .. info.short_src .. ":" .. info.linedefined
  return "function " .. path .. "(" .. concat(parameters, ", ") .. ")\n" .. place
end

function handlers.inspect(argument, code)
  local offset = tonumber(match(argument, "^%d+"))
  local path = match(sub(code, 1, offset), "[%w_.:]*$") .. match(sub(code, offset + 1), "^[%w_]*")
  local value = path ~= "" and resolve(path) or nil
  if value ~= nil then emit("data", "text/plain", sub(describe(value, path), 1, 20000)) end
  emit("inspected", value ~= nil and "1" or "0")
end

function handlers.attach(argument, path)
  local version = match(_VERSION, "%d.%d")
  local base = argument == "apt" and path .. "/usr" or path
  local quote = "'" .. gsub(base .. "/bin", "'", "'\\''") .. "'"
  environment = environment .. "PATH=" .. quote .. ":$PATH;"
  if argument == "apt" or argument == "luarocks" then
    local share = base .. "/share/lua/" .. version
    package.path = share .. "/?.lua;" .. share .. "/?/init.lua;" .. package.path
    local libraries = base .. "/lib/lua/" .. version .. "/?.so;"
    if argument == "apt" then libraries = libraries .. base .. "/lib/x86_64-linux-gnu/lua/" .. version .. "/?.so;" end
    package.cpath = libraries .. package.cpath
  end
  emit("attached")
end

-- the public part

local function show_as(how, value, mime, id)
  if mime then
    emit("data", mime, text_of(value))
  else
    send_forms(value)
  end
  emit(how, type(id) == "string" and find(id, "^%S+$") and id or "-")
end

-- Jupyter.display(value), or with text or bytes of a type: Jupyter.display(bytes, "image/png")
Jupyter = {
  display = function(value, mime, id) show_as("display", value, mime, id) end,
  update = function(value, id, mime) show_as("update", value, mime, id) end,
  clear = function(wait) emit("clear", wait and "1" or "0") end,
  password = function(prompt) return ask(prompt, true) end,
}
for short, mime in pairs({
  html = "text/html", markdown = "text/markdown", latex = "text/latex", svg = "image/svg+xml",
  png = "image/png", jpeg = "image/jpeg", json = "application/json",
}) do
  Jupyter[short] = function(content) show_as("display", content, mime) end
end

-- serving

local function serve()
  while true do
    is_busy = false
    local kind, argument, payload = receive()
    local handler = handlers[kind]
    if handler then handler(argument, payload) end
    if is_owed then
      is_busy = false
      return
    end
  end
end

-- Until an interrupt: the chunk that called this has to end, for the next one to hear another.
function package.loaded.S()
  if is_owed then
    is_owed = false
    emit("done", "error")
  end
  local is_fine = pcall(serve)
  if is_fine or not is_busy then return end
  -- It came while we were at work, outside of a cell: an answer is still owed.
  emit("ename", "-", "Interrupted")
  emit("evalue", "-", "The cell was interrupted.")
  is_owed = true
end

-- What LuaJIT has compiled hears no interrupt. A cell may call jit.on().
if jit then jit.off() end
replace_files()
replace_children()
arg = {}
emit("ready", match(_VERSION, "[%d.]+"), jit and "LuaJIT" or "Lua")
