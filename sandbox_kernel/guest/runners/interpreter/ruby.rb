# frozen_string_literal: true

# Runs cells of Ruby: requests come on descriptor 3, events go to 4 (see talk.py).
#
# Rule 1: cells run in TOPLEVEL_BINDING, on the main thread: locals live from cell to cell.
# Nothing of ours is a local variable there; all is below `Jupyter`.
# Rule 2: STDOUT, STDERR and STDIN stay the IO objects of 1, 2 and 0. What Ruby itself prints
# to the first two is an event; what children write goes to the descriptors.
# Rule 3: an Interrupt is raised inside a cell only. Everything else runs with it masked.
# Rule 4: RubyGems is loaded when a `require` needs it: it costs more than the rest together.

# What a cell may use to show things: `Jupyter.display(object)`, `Jupyter.html("<b>…</b>")`.
module Jupyter
  # The other end of the pipes, and what goes on there.
  module Runner
    FILE = __FILE__
    MAIN = Process.pid
    ADAPTER = ENV["SANDBOX_ADAPTER"]
    REQUESTS = IO.for_fd(3, "rb")
    EVENTS = IO.for_fd(4, "wb")
    LOCK = Mutex.new
    MAX_FRAMES = 30

    class << self
      attr_reader :is_running

      def serve
        prepare
        emit("ready", RUBY_VERSION, RUBY_ENGINE == "ruby" ? "Ruby" : RUBY_ENGINE)
        Thread.handle_interrupt(Interrupt => :never) { answer(*receive) while true }
      end

      # One write: threads' events never mix. A fork has no say.
      def emit(kind, argument = "-", payload = "")
        return if Process.pid != MAIN
        message = "#{kind} #{argument} #{payload.bytesize}\n".b << payload.b
        Thread.handle_interrupt(Interrupt => :never) { write(message) }
      end

      # Asks whoever sits at the front end. A text without newline, or nil for end of file.
      def ask(prompt, password)
        raise IOError, "A question can be asked only while a cell runs." unless is_running
        Thread.handle_interrupt(Interrupt => :never) do
          emit("input", password ? "1" : "0", prompt.to_s)
          Thread.handle_interrupt(Interrupt => :immediate) { IO.select([REQUESTS]) }
          _, argument, text = receive
          raise IOError, "This client cannot answer questions." unless argument == "ok"
          text == "\u0004" ? nil : text
        end
      end

      # The cell that the thread was started in.
      def cell
        Thread.current.group&.instance_variable_get(:@cell) || "-"
      end

      private

      def prepare
        [REQUESTS, EVENTS].each { |io| io.close_on_exec = true }
        EVENTS.sync = true
        Encoding.default_external = Encoding::UTF_8
        STDOUT.extend(Stream).event = "out"
        STDERR.extend(Stream).event = "err"
        STDIN.extend(Questions)
        Warning.extend(Warnings)
        handle_signals
      end

      # A trap may hold no lock and a fork has only its own thread: both write as they can.
      def write(message)
        LOCK.synchronize { EVENTS.write(message) }
      rescue ThreadError
        EVENTS.write(message)
      rescue SystemCallError, IOError
        exit!(70)
      end

      def receive
        kind, argument, length = (REQUESTS.gets || exit!(0)).split(" ")
        [kind, argument, REQUESTS.read(length.to_i).force_encoding(Encoding::UTF_8).scrub]
      rescue SystemCallError, IOError
        exit!(70)
      end

      def answer(kind, argument, text)
        case kind
        when "execute" then execute(argument, text)
        when "evaluate" then finish { show(text, "evaluate") }
        when "complete" then complete(argument.to_i, text)
        when "inspect" then inspect_at(argument, text)
        when "check" then emit("checked", *Reader.check(text))
        when "attach" then attach(argument, text)
        end
      end

      def execute(argument, code)
        cell, count, silent, fresh = argument.split(",")
        reopen if fresh == "1"
        enter(cell, "Cell[#{count}]")
        code = take_data(code)
        finish { show(code, silent == "1" || code.match?(/;\s*\z/) ? nil : "result") }
      end

      def enter(cell, name)
        group = ThreadGroup.new.add(Thread.current)
        group.instance_variable_set(:@cell, cell)
        @name = $PROGRAM_NAME = name # `if __FILE__ == $0` is true in a cell
      end

      def take_data(code)
        body, data = code.split(/^__END__$\n?/, 2)
        return code unless data
        require "stringio"
        Object.send(:remove_const, :DATA) if Object.const_defined?(:DATA, false)
        Object.const_set(:DATA, StringIO.new(data))
        body
      end

      # `how`: "result", "evaluate" (forms alone) or nil.
      def show(code, how)
        value = TOPLEVEL_BINDING.eval(code, @name || "Cell", 1)
        return if how.nil? || (NilClass === value && how == "result")
        Forms.of(value).each { |mime, data| emit("data", mime, data) }
        emit("result") if how == "result"
      end

      # Runs the block as a cell; then says how it ended.
      def finish(&block)
        error = run(&block)
        exit!(0) if Process.pid != MAIN # a fork that ran past its end
        report(error) if error
        emit("done", error ? "error" : "ok")
      end

      def run
        @is_running = true
        Thread.handle_interrupt(Interrupt => :immediate) { yield }
        nil
      rescue SystemExit => error
        error.success? ? nil : error
      rescue Exception => error # rubocop:disable Lint/RescueException
        error
      ensure
        @is_running = false
        handle_signals
        forget_interrupts
      end

      # A cell may have set a trap, which would kill us when nothing runs.
      def handle_signals
        trap("INT") { Thread.main.raise(Interrupt, "interrupted") if Runner.is_running }
      end

      def forget_interrupts
        Thread.handle_interrupt(Interrupt => :immediate) { Thread.pass } if Thread.pending_interrupt?
      rescue Interrupt
        nil
      end

      def report(error)
        Failure.new(error).then do |failure|
          emit("ename", "-", failure.name)
          emit("evalue", "-", failure.message)
          failure.lines.each { |line| emit("trace", "-", line) }
        end
      rescue Exception # of a class with a broken `message`
        emit("ename", "-", "StandardError")
        emit("evalue", "-", "An error that cannot tell what it is.")
      end

      def reopen
        [[STDOUT, 1], [STDERR, 2]].each do |io, number|
          io.reopen_as_ours("/proc/#{ADAPTER}/fd/#{number}")
        rescue SystemCallError
          next # the old one does as well
        end
      end

      def complete(offset, code)
        before = code.byteslice(0, offset).scrub
        word, matches = Reader.complete(before)
        matches.first(1000).each { |text, type| emit("match", type, text) }
        emit("completed", offset - word.bytesize)
      end

      def inspect_at(argument, code)
        offset, detail = argument.split(",").map(&:to_i)
        around = [code.byteslice(0, offset), code.byteslice(offset..-1)].map { |half| half.to_s.scrub }
        text = Reader.describe(*around, detail)
        emit("data", "text/plain", text) if text
        emit("inspected", text ? 1 : 0)
      end

      def attach(ecosystem, path)
        Packages.attach(ecosystem, path)
        emit("attached")
      end
    end
  end

  # What STDOUT and STDERR do with what Ruby prints.
  module Stream
    attr_writer :event

    def write(*parts)
      return super if @is_elsewhere || Process.pid != Runner::MAIN
      text = parts.length == 1 ? parts[0].to_s : parts.map { |part| part.to_s.b }.join
      Runner.emit(@event, Runner.cell, text) unless text.empty?
      text.bytesize
    end

    def syswrite(text)
      write(text)
    end

    def write_nonblock(text, **_options)
      write(text)
    end

    # By a cell: what is printed goes where it wanted.
    def reopen(*)
      @is_elsewhere = true
      super
    end

    def reopen_as_ours(path)
      IO.instance_method(:reopen).bind(self).call(path, "w")
      self.sync = true
      @is_elsewhere = false
    end
  end

  # Ruby writes warnings to descriptor 2 itself; here they keep their place among the rest.
  module Warnings
    def warn(message, **_category)
      $stderr.write(message)
      nil
    end
  end

  # What STDIN does when it is read: each line is a question.
  module Questions
    def gets(separator = $/, _limit = nil, chomp: false)
      return read if separator.nil?
      line = next_line
      line && (chomp ? line.chomp : line)
    end

    def readline(*arguments, **options)
      gets(*arguments, **options) || raise(EOFError, "end of file reached")
    end

    def each_line(*arguments, **options)
      return to_enum(:each_line, *arguments, **options) unless block_given?
      while (line = gets(*arguments, **options))
        yield line
      end
      self
    end
    alias each each_line

    # Nobody can press Ctrl-D in a notebook: one answer is all there is.
    def read(length = nil, *)
      text = next_line.to_s
      return text unless length
      @rest = text.byteslice(length..-1).to_s + @rest.to_s
      text.byteslice(0, length)
    end

    def readlines(*_arguments, chomp: false)
      read.lines(chomp: chomp)
    end

    def getc
      read(1)
    end
    alias getch getc
    alias readchar getc

    def readpartial(length, *)
      read(length)
    end
    alias sysread readpartial

    def eof?
      false
    end

    def getpass(prompt = nil)
      Runner.ask(prompt, true)
    end

    def noecho
      @is_secret = true
      yield self
    ensure
      @is_secret = false
    end

    private

    def next_line
      return @rest.tap { @rest = nil } unless @rest.to_s.empty?
      text = Runner.ask("", @is_secret)
      text && "#{text}\n"
    end
  end

  # How an object looks in a notebook.
  module Forms
    # In IRuby's order; each a method without arguments.
    METHODS = {
      "text/html" => :to_html, "image/svg+xml" => :to_svg, "image/png" => :to_png,
      "image/jpeg" => :to_jpeg, "text/latex" => :to_latex, "text/markdown" => :to_markdown
    }.freeze
    PLAIN = [String, Symbol, Numeric, Array, Hash, NilClass, TrueClass, FalseClass].freeze
    WIDE = 100

    # Pairs of a MIME type and bytes.
    def self.of(value)
      forms = rich(value)
      forms["text/plain"] ||= plain(value)
      forms
    end

    def self.plain(value)
      return "#<BasicObject>" unless Kernel === value
      text = value.inspect.to_s
      text = text.encode(Encoding::UTF_8, invalid: :replace, undef: :replace).scrub
      return text unless text.length.between?(WIDE, 100_000) && !text.include?("\n")
      require "pp"
      value.pretty_inspect.chomp
    end

    def self.rich(value)
      # Asked of the class: a BasicObject has no methods to ask by.
      return {} if PLAIN.any? { |type| type === value } || !(Kernel === value)
      bundle = iruby(value)
      METHODS.each do |mime, name|
        bundle[mime] ||= value.public_send(name).to_s if tells?(value, name)
      end
      bundle
    end

    def self.tells?(value, name)
      value.respond_to?(name) && [0, -1].include?(value.method(name).arity)
    end

    def self.iruby(value)
      if value.respond_to?(:to_iruby_mimebundle)
        data, = value.to_iruby_mimebundle
        return data.map { |mime, content| [mime.to_s, encode(mime.to_s, content)] }.to_h
      end
      mime, data = value.to_iruby if tells?(value, :to_iruby)
      mime ? { mime => encode(mime, data) } : {}
    end

    # JSON may be given as the object that it tells.
    def self.encode(mime, content)
      return content.to_s if content.is_a?(String) || !mime.match?(/json\z/)
      require "json"
      JSON.generate(content)
    end
  end

  # An error as a reader wants it: without our frames.
  class Failure
    attr_reader :name, :message

    def initialize(error)
      @error = error
      suggest if error.is_a?(NameError) || error.is_a?(KeyError)
      @name = error.class.name || error.class.to_s
      @message = error.is_a?(SystemExit) ? "exit #{error.status}" : text_of(error)
    end

    def lines
      return [@message] if @error.is_a?(SyntaxError) || @error.is_a?(SystemExit)
      chain = [@error]
      chain << chain.last.cause while chain.last.cause && chain.length < 10
      chain.flat_map { |error| told(error) }
    end

    private

    def text_of(error)
      text = error.message
      # Since 3.4 the suggestion is in this one only, beside the class.
      if error.is_a?(NameError) && error.respond_to?(:detailed_message)
        text = error.detailed_message(highlight: false).sub(/ \(\S+\)$/, "")
      end
      text.to_s.encode(Encoding::UTF_8, invalid: :replace, undef: :replace).scrub
    end

    def told(error)
      first, *rest = frames(error)
      head = "#{text_of(error)} (#{error.class})"
      [first ? "#{first}: #{head}" : head, *rest.map { |frame| "\tfrom #{frame}" }]
    end

    def frames(error)
      all = (error.backtrace || []).reject { |frame| frame.start_with?(Runner::FILE, "<internal:") }
      return all if all.length <= 2 * Runner::MAX_FRAMES
      left = all.length - 2 * Runner::MAX_FRAMES
      all.first(Runner::MAX_FRAMES) + ["... #{left} more ..."] + all.last(Runner::MAX_FRAMES)
    end

    # Left out at the start with RubyGems; it works on errors that were raised before.
    def suggest
      require "did_you_mean"
    rescue LoadError
      nil
    end
  end

  # Reads code without running any: completion, inspection and completeness.
  module Reader
    PATH = /(?:::)?(?:@{1,2}|\$)?[[:alpha:]_]\w*[?!]?(?:(?:&?\.|::)[[:alpha:]_]\w*[?!]?)*/.freeze
    LITERALS = { '"' => String, "'" => String, "]" => Array, "}" => Hash }.freeze
    KEYWORDS = %w[
      alias and begin BEGIN break case class def defined? do else elsif end END ensure false for if
      in module next nil not or redo rescue retry return self super then true undef unless until
      when while yield __FILE__ __LINE__ __method__
    ].freeze
    UNFINISHED = /
      unexpected\ end-of-input | unexpected\ end\ of\ file | meets\ end\ of\ file |
      can't\ find\ string\ ".*"\ anywhere\ before\ EOF | unterminated\ (?:heredoc|string|list|regexp) |
      expected\ (?:a\ matching|an?\ `end`) | unclosed
    /x.freeze
    OPENING = /(?:\b(?:do|then|begin|else|ensure|rescue)|[({\[]|\|)\s*\z|\A\s*(?:if|unless|while|until|for|case|def|class|module|when|elsif|else|begin|rescue|ensure)\b/.freeze
    UNKNOWN = Object.new.freeze

    module_function

    # What `checked` says: a word, and the indent of the next line.
    def check(code)
      before = $VERBOSE
      $VERBOSE = nil
      RubyVM::InstructionSequence.compile(code)
      ["complete", ""]
    rescue SyntaxError => error
      return ["invalid", ""] unless error.message.match?(UNFINISHED)
      last = code.lines.reject { |line| line.strip.empty? }.last.to_s.chomp
      ["incomplete", last[/\A\s*/] + (last.match?(OPENING) ? "  " : "")]
    rescue NameError # another engine
      ["unknown", ""]
    ensure
      $VERBOSE = before
    end

    # The word before the cursor, and pairs of a completion and its type.
    def complete(before)
      word = before[/(?:@{1,2}|\$)?[[:alpha:]_]?\w*[?!]?\z/]
      rest = before[0, before.length - word.length]
      operator = rest[/(?:&?\.|::)\z/]
      found = operator ? members(rest[0, rest.length - operator.length], operator) : words(word)
      matches = found.select { |text, _| text.start_with?(word) }.uniq(&:first)
      [word, matches.sort_by { |text, _| [text.start_with?("_") ? 1 : 0, text] }]
    end

    def words(word)
      frame = TOPLEVEL_BINDING
      return named(frame.receiver.instance_variables, "instance") if word.start_with?("@")
      return named(global_variables, "variable") if word.start_with?("$")
      return [] if word.empty?
      self_methods = frame.receiver.methods + frame.receiver.private_methods
      named(frame.local_variables, "variable") + named(KEYWORDS, "keyword") +
        named(self_methods.grep(/\A\w/), "function") + constants_of(Object)
    end

    def members(receiver, operator)
      if (type = receiver[/\b([A-Z]\w*(?:::[A-Z]\w*)*)\.new(?:\(.*\))?\z/, 1])
        object = resolve(type)
        return object.is_a?(Class) ? methods_in(object.public_instance_methods) : []
      end
      type = LITERALS[receiver[-1]] || (Integer if receiver.match?(/(?<![\w.])\d+\z/))
      return methods_in(type.public_instance_methods) if type
      object = resolve(receiver[/#{PATH}\z/].to_s)
      return [] if object.equal?(UNKNOWN)
      constants = operator == "::" && Module === object ? constants_of(object) : []
      constants + methods_in(Kernel.instance_method(:methods).bind(object).call)
    end

    def named(names, type)
      names.map { |name| [name.to_s, type] }
    end

    def methods_in(names)
      named(names.grep(/\A\w/), "function")
    end

    def constants_of(parent)
      parent.constants.map do |name|
        next [name.to_s, "module"] if parent.autoload?(name)
        [name.to_s, Module === parent.const_get(name) ? "class" : "constant"]
      end
    end

    # The object that a path of variables and constants names, else UNKNOWN. Calls nothing.
    def resolve(path)
      first, *rest = path.delete_prefix("::").split(/(&?\.|::)/)
      object = first ? variable(first) : UNKNOWN
      rest.each_slice(2) do |operator, name|
        return UNKNOWN unless operator == "::" && Module === object && object.const_defined?(name)
        object = object.const_get(name)
      end
      object
    rescue NameError
      UNKNOWN
    end

    def variable(name)
      frame = TOPLEVEL_BINDING
      case name
      when "self" then frame.receiver
      when /\A@@/ then UNKNOWN
      when /\A@/ then frame.receiver.instance_variable_get(name)
      when /\A\$/ then global_variables.include?(name.to_sym) ? frame.eval(name) : UNKNOWN
      when /\A[A-Z]/ then Object.const_get(name)
      else frame.local_variable_defined?(name) ? frame.local_variable_get(name) : UNKNOWN
      end
    end

    # What is under the cursor, or nil.
    def describe(before, after, detail)
      path = before[/#{PATH}(?:&?\.|::)?\z/].to_s + after[/\A\w*[?!]?/]
      return nil if path.empty?
      object = path.match?(/[?!]\z/) ? UNKNOWN : resolve(path)
      return describe_value(object, detail) unless object.equal?(UNKNOWN)
      method = method_at(path)
      method && describe_method(method, detail)
    end

    def method_at(path)
      receiver, _, name = path.rpartition(/&?\.|::/)
      return TOPLEVEL_BINDING.receiver.method(name) if receiver.empty?
      object = resolve(receiver)
      object.equal?(UNKNOWN) ? nil : Kernel.instance_method(:method).bind(object).call(name)
    rescue NameError
      nil
    end

    def describe_method(method, detail)
      file, line = method.source_location
      text = "#{method.owner}##{method.name}(#{signature(method)})"
      text += file ? "\nDefined at #{file}:#{line}" : "\nBuilt in"
      comment = file && File.file?(file) ? comment_above(file, line) : ""
      text += "\n\n#{comment}" unless comment.empty?
      detail == 1 && file && File.file?(file) ? "#{text}\n\n#{File.readlines(file)[line - 1, 30].join}" : text
    end

    def comment_above(file, line)
      above = File.readlines(file)[0, line - 1].reverse
      above.take_while { |text| text.match?(/\A\s*#/) }.reverse.map { |text| text.sub(/\A\s*# ?/, "") }.join
    end

    def signature(method)
      method.parameters.map do |kind, name|
        case kind
        when :req, :nokey then name || "_"
        when :opt then "#{name || "_"} = …"
        when :rest then "*#{name}"
        when :keyreq then "#{name}:"
        when :key then "#{name}: …"
        when :keyrest then "**#{name}"
        when :block then "&#{name}"
        end
      end.join(", ").gsub("**" * 2, "**").gsub("&&", "&")
    end

    def describe_value(object, detail)
      return "#{Forms.plain(object)[0, 4000]}" unless Kernel === object
      return describe_module(object, detail) if Module === object
      "Class: #{object.class}\nValue: #{Forms.plain(object)[0, detail == 1 ? 20_000 : 2000]}"
    end

    def describe_module(object, detail)
      text = +"#{object.class} #{object}"
      text << "\nAncestors: #{object.ancestors.first(8).join(", ")}"
      text << "\nnew(#{signature(object.instance_method(:initialize))})" if object.is_a?(Class)
      methods = object.public_instance_methods(false).sort
      text << "\nMethods: #{methods.first(detail == 1 ? 500 : 40).join(", ")}" unless methods.empty?
      text
    end
  end

  # Where gems come from, and when RubyGems itself is loaded.
  module Packages
    class << self
      # GEM_PATH that ends with a colon keeps Ruby's own directories.
      def attach(ecosystem, path)
        prepend("PATH", ecosystem == "apt" ? "#{path}/usr/bin" : "#{path}/bin")
        return attach_directories(Dir["#{path}/usr/lib/ruby/vendor_ruby"]) if ecosystem == "apt"
        return unless ecosystem == "gem"
        others = ENV["GEM_PATH"].to_s
        ENV["GEM_PATH"] = "#{path}:#{others}" unless others.split(":").include?(path)
        refresh if loaded?
      end

      # It requires files itself while it is being loaded.
      def loaded?
        @is_loading || !Object.autoload?(:Gem)
      end

      # A layer's gems come before what Ruby brings, as RubyGems would have it.
      def wanted?
        !loaded? && !ENV["GEM_PATH"].to_s.empty?
      end

      def load
        !loaded? && load_now
      end

      private

      def load_now
        @is_loading = true
        Object.const_get(:Gem)
      rescue LoadError # a Ruby without it
        false
      ensure
        @is_loading = false
      end

      def refresh
        Gem.clear_paths
        Gem::Specification.reset
      end

      def attach_directories(directories)
        directories.each { |directory| $LOAD_PATH.unshift(directory) }
      end

      def prepend(name, value)
        old = ENV[name].to_s
        ENV[name] = old.empty? ? value : "#{value}:#{old}" unless old.split(":").include?(value)
      end
    end
  end

  # The public part.
  class << self
    # Shows `object`, or text of the type `mime`; `id` is what `update` takes.
    def display(object, mime: nil, id: nil, metadata: nil)
      show(object, mime, metadata)
      Runner.emit("display", id || "-")
      nil
    end

    def update(object, id:, mime: nil, metadata: nil)
      show(object, mime, metadata)
      Runner.emit("update", id)
      nil
    end

    def clear(wait: false)
      Runner.emit("clear", wait ? "1" : "0")
      nil
    end

    {
      html: "text/html", markdown: "text/markdown", latex: "text/latex", svg: "image/svg+xml",
      png: "image/png", jpeg: "image/jpeg", json: "application/json", text: "text/plain"
    }.each do |name, mime|
      define_method(name) { |content, id: nil| display(content, mime: mime, id: id) }
    end

    private

    def show(object, mime, metadata)
      forms = mime ? { mime => Forms.encode(mime, object) } : Forms.of(object)
      forms = { "text/plain" => object } if mime.nil? && object.is_a?(String)
      forms.each { |type, data| Runner.emit("data", type, data) }
      Runner.emit("meta", "-", Forms.encode("json", metadata)) if metadata
    end
  end
end

# What gems that know notebooks call.
module IRuby
  class << self
    def display(object, mime: nil, **_options)
      Jupyter.display(object, mime: mime)
    end

    %i[html latex markdown svg png jpeg json].each do |name|
      define_method(name) { |content| Jupyter.public_send(name, content) }
    end

    def convert(object, mime: nil, **_options)
      object.define_singleton_method(:to_iruby) { [mime, to_s] } if mime
      object
    end

    def clear_output(wait = false)
      Jupyter.clear(wait: wait)
    end
  end
end

module Kernel
  alias sandbox_require require
  alias sandbox_gets gets
  private :sandbox_require, :sandbox_gets

  private

  def require(path)
    return require(path) if Jupyter::Packages.wanted? && Jupyter::Packages.load
    begin
      return sandbox_require(path)
    rescue LoadError => error
      raise unless error.path == path && Jupyter::Packages.load
    end
    require(path) # outside, so that the first error is not the second one's cause
  end

  def gem(*arguments)
    Jupyter::Packages.load ? gem(*arguments) : super # RubyGems has put its own in our place
  end

  def gets(*arguments, **options)
    return sandbox_gets(*arguments, **options) unless ARGV.empty?
    $stdin.gets(*arguments, **options)
  end

  def readline(*arguments, **options)
    $stdin.readline(*arguments, **options)
  end

  def readlines(*arguments, **options)
    $stdin.readlines(*arguments, **options)
  end
end

Object.autoload(:Gem, "rubygems")
Object.autoload(:RbConfig, "rbconfig")
Object.autoload(:Monitor, "monitor")
Object.autoload(:MonitorMixin, "monitor")
Jupyter::Runner.serve
