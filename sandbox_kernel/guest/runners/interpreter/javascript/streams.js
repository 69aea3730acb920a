// Standard output, error and input as Node.js programs know them, and questions.
//
// Rule 1: what is written goes to the adapter at once, in the order of everything else.
// Rule 2: descriptors 1 and 2 stay real pipes, of the newest cell: for children and C code.
// Rule 3: standard input is asked of the reader, a line at a time, and only while a cell runs.

'use strict';

const {
  Buffer,
  Object,
  String,
  TypeError,
  Uint8Array,
  process,
  setImmediate,
  world,
} = require('./globals.js');
const fs = require('fs');
const { Readable, Writable } = require('stream');

const { ask, emit } = require('./channel.js');
const context = require('./context.js');
const errors = require('./errors.js');
const interrupts = require('./interrupts.js');

const { OURS } = errors;
// Requests and threads that may open files behind our back.
const OPENING = /FSReq|Worker|MessagePort|AddrInfo|NameInfo/;
const ADAPTER = process.env.SANDBOX_ADAPTER;

// --- output -----------------------------------------------------------------------------

class Output extends Writable {
  constructor(kind, fd) {
    super({ decodeStrings: false });
    this.kind = kind;
    this.fd = fd; // for children that are given this stream
    this._isStdio = true;
  }

  // Nothing is buffered, so there is nothing to wait for.
  write(chunk, encoding, callback) {
    if (this.writableEnded) return super.write(chunk, encoding, callback);
    const done = typeof encoding === 'function' ? encoding : callback;
    say(this.kind, toPayload(clean(chunk), encoding));
    if (typeof done === 'function') process.nextTick(done);
    return true;
  }

  _write(chunk, encoding, callback) {
    say(this.kind, toPayload(chunk, encoding));
    callback();
  }

  // A program that ends its output (a pipeline does) is not the last to have some.
  end(chunk, encoding, callback) {
    const done = [chunk, encoding, callback].find((item) => typeof item === 'function');
    if (chunk !== undefined && chunk !== null && chunk !== done) this.write(chunk, encoding);
    process.nextTick(() => {
      this.emit('finish');
      done?.();
    });
    return this;
  }

  _destroy(error, callback) {
    callback(); // and goes on
  }
}

// Errors that are printed have stacks, which end with us.
function clean(chunk) {
  return typeof chunk === 'string' && chunk.includes(OURS) ? errors.clean(chunk) : chunk;
}

function toPayload(chunk, encoding) {
  if (typeof chunk === 'string') {
    const isPlain = typeof encoding !== 'string' || /^utf-?8$/i.test(encoding);
    return isPlain ? chunk : Buffer.from(chunk, encoding);
  }
  if (chunk instanceof Uint8Array) return chunk;
  throw new TypeError('Standard output takes texts and bytes.');
}

function say(kind, payload) {
  const cell = context.cell();
  if (cell?.isInterrupted) throw new errors.Interrupted();
  emit(kind, cell?.number ?? '-', payload);
}

function install() {
  delete process.env.SANDBOX_ADAPTER;
  const stdout = new Output('out', 1);
  const stderr = new Output('err', 2);
  provide('stdout', () => stdout);
  provide('stderr', () => stderr);
  provide('stdin', () => standardInput());
  for (const [name, value] of Object.entries({ alert, confirm, input, prompt })) {
    Object.defineProperty(world, name, { value, writable: true, configurable: true });
  }
  offer('display', () => require('./display.js').display);
  offer('$$', () => require('./display.js').helpers);
}

// A global that is loaded when it is first used.
function offer(name, get) {
  const set = (value) =>
    Object.defineProperty(world, name, { value, writable: true, enumerable: true });
  Object.defineProperty(world, name, { get, set, configurable: true });
}

function provide(name, get) {
  Object.defineProperty(process, name, { get, configurable: true, enumerable: true });
}

// The adapter has new pipes there. Closed first, opened next: the same numbers, if no other
// thread opens a file in between. Where one might, what is there stays: what children print
// is then the cell's that was the last to be alone.
function reopen() {
  interrupts.awaitThread();
  if (process.getActiveResourcesInfo().some((name) => OPENING.test(name))) return;
  for (const fd of [1, 2]) {
    try {
      fs.closeSync(fd);
    } catch {
      // a cell closed it
    }
    open(fd);
  }
}

function open(fd) {
  try {
    return fs.openSync(`/proc/${ADAPTER}/fd/${fd}`, fs.constants.O_WRONLY);
  } catch {
    return fs.openSync('/dev/null', fs.constants.O_WRONLY);
  }
}

// --- input ------------------------------------------------------------------------------

class Input extends Readable {
  constructor() {
    super();
    this.fd = 0;
    this.wants = false;
    this.waiting = [];
  }

  _read() {
    this.wants = true;
    setImmediate(() => this.ask());
  }

  resume() {
    super.resume();
    if (this.wants) setImmediate(() => this.ask());
    return this;
  }

  // Whether the program will look at what comes.
  isWanted() {
    return this.wants && (this.readableFlowing === true || this.listenerCount('readable') > 0);
  }

  isLeft() {
    const listeners = this.listenerCount('data') + this.listenerCount('readable');
    return this.readableFlowing === false && listeners === 0;
  }

  ask() {
    if (this.isWanted() && context.current) {
      this.wants = false;
      this.push(this.receive());
    }
    if (!this.isWanted()) for (const listener of this.waiting.splice(0)) listener();
  }

  receive() {
    try {
      return `${ask('')}\n`;
    } catch {
      return null;
    }
  }
}

let stdin;

// A new one for the next reader, where the last is done with the old.
function standardInput() {
  if (!stdin || stdin.destroyed || stdin.readableEnded || stdin.isLeft()) stdin = new Input();
  return stdin;
}

function isReading() {
  return Boolean(stdin?.isWanted());
}

function whenRead(listener) {
  stdin.waiting.push(listener);
}

// As browsers and Deno have them.
function prompt(message = 'Prompt', initial = undefined) {
  const text = String(message);
  const question = initial === undefined ? text : `${text} [${initial}]`;
  const answer = ask(/\s$/.test(question) || !question ? question : `${question} `);
  return answer === '' && initial !== undefined ? String(initial) : answer;
}

function confirm(message = 'Confirm') {
  return /^y(es)?$/i.test(ask(`${message} [y/N] `).trim());
}

function alert(message = 'Alert') {
  process.stdout.write(`${message}\n`);
}

async function input(message = '', { password = false } = {}) {
  return ask(String(message), password);
}

module.exports = { install, isReading, reopen, whenRead };
