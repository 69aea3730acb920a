// One cell, from its code to the `done` that ends it.
//
// A cell ends when its last line has run, all it awaited at the top has come, and a turn of
// the event loop after that. Timers and promises that it left go on: what they print is late
// output, and what they throw is told on standard error.
//
// Rule 1: a cell ends once: by its value, an error, process.exit() or an interrupt.
// Rule 2: whatever is thrown, the process lives.

'use strict';

const {
  clearImmediate,
  clearTimeout,
  Error,
  Number,
  Object,
  process,
  setImmediate,
  setTimeout,
  String,
  world,
} = require('./globals.js');
const util = require('util');
const vm = require('vm');

const { emit } = require('./channel.js');
const interrupts = require('./interrupts.js');
const errors = require('./errors.js');
const context = require('./context.js');
const streams = require('./streams.js');
const timers = require('internal/timers');
const { newAsyncId } = require('internal/async_hooks');

const LOADER = vm.constants?.USE_MAIN_CONTEXT_DEFAULT_LOADER;

// What may be running on when a cell's last line has run.
const GOES_ON =
  /\b(async|then|catch|finally|set(Timeout|Interval|Immediate)|nextTick|on|once)\b|Micro/;

const STRAGGLER_MS = 100;

let isTypeScript = false;

// What process.exit() throws: it ends the cell, and nothing else.
class Exit extends Error {
  constructor(code) {
    super(`process.exit(${code})`);
    this.code = code;
    this.isExit = true;
  }
}

function install(isTypeScriptMode) {
  isTypeScript = isTypeScriptMode;
  // An import of a type alone looks like any other, and nothing is there when it is run.
  world.$$import.isLenient = isTypeScript;
  process.exit = (code = process.exitCode) => {
    throw new Exit(Number(code ?? 0));
  };
  process.on('uncaughtException', (error) => tellLate(error, ''));
  process.on('unhandledRejection', (error) => tellLate(error, '(in promise) '));
  // Assertions and warnings of a program's own exit code are no business of ours.
  Error.stackTraceLimit = 20;
}

// Nothing may be thrown here: that would be the end.
function tellLate(error, how) {
  try {
    tellOrEnd(error, how);
  } catch {
    // An error made to fail when it is looked at.
  }
}

function tellOrEnd(error, how) {
  if (errors.isInterrupted(error)) return; // the rest of a cell that was
  if (error instanceof Exit) {
    const cell = context.current;
    if (cell) end(cell, error.code ? error : null);
    return;
  }
  const text = errors
    .describe(error)
    .trace.join('\n')
    .replace(/^Uncaught /, '');
  emit('err', '-', `Uncaught ${how}${text}\n`);
}

// --- requests ---------------------------------------------------------------------------

function execute({ argument, payload }) {
  const [number, count, silent, fresh] = argument.split(',').map(Number);
  if (fresh) streams.reopen();
  const name = `Cell[${count}]`;
  begin({ number, name, code: payload.toString(), showsValue: !silent, how: 'result' });
}

function evaluate({ payload }) {
  const number = context.current?.number ?? context.newest;
  begin({ number, name: 'expression', code: payload.toString(), showsValue: true, how: '' });
}

function begin(cell) {
  cell.isEnded = false;
  cell.isInterrupted = false;
  cell.firstTimer = newAsyncId();
  context.enter(cell);
  interrupts.arm(() => interrupt(cell));
  context.run(cell, () => start(cell));
}

function start(cell) {
  let plan;
  let value;
  try {
    plan = prepare(cell);
    value = run(plan);
  } catch (error) {
    return fail(cell, error);
  }
  if (plan.isAsync || GOES_ON.test(cell.code)) interrupts.watch();
  if (!plan.isAsync) return succeed(cell, plan.hasValue ? [value] : []);
  value.then(
    (found) => succeed(cell, plan.hasValue ? found : []),
    (error) => fail(cell, error),
  );
}

// --- running ----------------------------------------------------------------------------

function prepare(cell) {
  const { code, name } = cell;
  errors.remember(name, code, null);
  const stripped = isTypeScript ? strip(code, name) : { code, find: null };
  const toCell = (place) => (stripped.find ? stripped.find(...place) : place);
  let plan;
  try {
    plan = require('./source.js').prepare(stripped.code);
  } catch (fault) {
    plan = prepareAnyway(stripped.code, name, fault, toCell);
  }
  plan.name = name;
  const { find } = plan;
  plan.find = (line, column) => {
    const place = find(line, column);
    return place && toCell(place);
  };
  errors.remember(name, code, plan.find);
  return plan;
}

function strip(code, name) {
  try {
    return require('./typescript.js').strip(code, name);
  } catch (error) {
    if (error.position) error.cell = name;
    throw error;
  }
}

// The parser refused it, but V8 may know a newer language.
function prepareAnyway(code, name, fault, toCell) {
  try {
    new vm.Script(code, { filename: name });
  } catch {
    const refusal = errors.refuse(code, name, fault);
    if (refusal?.position) refusal.position = toCell(refusal.position);
    throw refusal;
  }
  const find = (line, column) => [line, column];
  return { functions: '', main: code, isAsync: false, hasValue: true, names: [], find };
}

function run(plan) {
  for (const word of plan.names) declare(word);
  if (plan.functions) runScript(plan.functions, plan);
  return runScript(plan.main, plan);
}

function runScript(code, plan) {
  return compile(code, plan).runInThisContext({ breakOnSigint: true, displayErrors: false });
}

function compile(code, { name, find }) {
  try {
    return new vm.Script(code, { filename: name, importModuleDynamically: LOADER });
  } catch (error) {
    const place = errors.placeOf(error);
    throw place ? errors.locate(String(error.message), name, find(...place) ?? place) : error;
  }
}

// A name of the global object that can be assigned to, and deleted again. Node's own getters
// give way, as they would to a declaration in a module.
function declare(name) {
  const known = Object.getOwnPropertyDescriptor(world, name);
  if (known && (known.writable || !known.configurable)) return;
  Object.defineProperty(world, name, {
    value: undefined,
    writable: true,
    enumerable: true,
    configurable: true,
  });
}

// --- ends -------------------------------------------------------------------------------

function succeed(cell, found) {
  if (cell.isEnded) return;
  if (!cell.showsValue || !found.length || found[0] === undefined) return endSoon(cell, null);
  try {
    const shown = show(cell, found[0]);
    if (util.types.isPromise(shown)) {
      shown.then(
        () => endSoon(cell, null),
        (error) => fail(cell, error),
      );
      return;
    }
  } catch (error) {
    return fail(cell, error);
  }
  endSoon(cell, null);
}

function show(cell, value) {
  if (cell.how) keepValue(value);
  return require('./display.js').show(value, cell.how);
}

// `_` is the last value, until a program wants the name for itself.
let lastValue;
let isLastValueOurs = false;

function keepValue(value) {
  lastValue = value;
  if (isLastValueOurs || Object.hasOwn(world, '_')) return;
  isLastValueOurs = true;
  Object.defineProperty(world, '_', {
    get: () => lastValue,
    set: (own) =>
      Object.defineProperty(world, '_', { value: own, writable: true, enumerable: true }),
    configurable: true,
    enumerable: false,
  });
}

function fail(cell, error) {
  if (cell.isEnded) return;
  if (util.types.isProxy(error)) return endSoon(cell, error, true); // with traps, perhaps
  if (error?.code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED') return interrupt(cell);
  if (isOfChild(error)) return void setTimeout(() => interrupt(cell), STRAGGLER_MS);
  if (error instanceof Exit) return endSoon(cell, error.code ? error : null);
  endSoon(cell, error, true);
}

// A child that is waited for dies of the same signal, and may be the first to say so. Our own
// is about to be noticed then, and is not to meet the next cell.
function isOfChild(error) {
  return error?.pid > 0 && (error.signal === 'SIGINT' || error.status === 130);
}

// What it left to do at once, microtasks above all, is still its own; so are questions that
// it has begun to ask on standard input.
function endSoon(cell, error, isError = error !== null) {
  setImmediate(() => {
    if (streams.isReading()) streams.whenRead(() => endSoon(cell, error, isError));
    else end(cell, error, isError);
  });
}

function interrupt(cell) {
  if (cell.isEnded) return;
  cell.isInterrupted = true;
  stopTimers(cell.firstTimer);
  end(cell, new errors.Interrupted(), true);
}

// Without these a loop that sleeps would go on after the cell is said to have ended.
function stopTimers(first) {
  const { async_id_symbol: id, timerListMap, immediateQueue } = timers;
  for (const list of Object.values(timerListMap)) {
    for (let timer = list._idlePrev, next; timer && timer !== list; timer = next) {
      next = timer._idlePrev;
      if (timer[id] > first) clearTimeout(timer);
    }
  }
  for (let immediate = immediateQueue.head, next; immediate; immediate = next) {
    next = immediate._idleNext;
    if (immediate[id] > first) clearImmediate(immediate);
  }
}

function end(cell, error, isError = error !== null) {
  if (cell.isEnded) return;
  // False: an interrupt is about to end it.
  if (!interrupts.disarm()) return;
  cell.isEnded = true;
  context.leave();
  try {
    if (isError) tell(error);
  } catch {
    // A cell may have broken anything. That it has ended is said in any case.
  }
  emit('done', isError ? 'error' : 'ok');
  // Neither the first answer nor the cells right behind it are to wait for this.
  interrupts.watchSoon();
}

function tell(error) {
  const { ename, evalue, trace } = errors.describe(error);
  emit('ename', '-', ename);
  emit('evalue', '-', evalue);
  for (const line of trace) emit('trace', '-', line);
}

module.exports = { evaluate, execute, install };
