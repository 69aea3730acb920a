// The global `tools`: functions of the host's, each of which gives a promise.
//
//   await tools.search('otters', {limit: 3})      await tools.search({query: 'otters'})
//
// A last argument that is a plain object of nothing but parameters' names has those parameters.
//
// Rule: no more calls are under way than the host takes at once; the others wait their turn.

'use strict';

const { Buffer, Error, JSON, Map, Object, Promise, String, Symbol, Uint8Array, world } =
  require('./globals.js');

const { emit } = require('./channel.js');
const context = require('./context.js');

class ToolError extends Error {}
Object.defineProperty(ToolError.prototype, 'name', { value: 'ToolError' });

// What inspection shows of a function in place of its source.
const DESCRIBED = Symbol.for('sandbox.described');

const calls = new Map();
const waiting = [];
let count = 0;
let concurrency = 1;

function offer({ payload }) {
  const told = JSON.parse(payload.toString());
  concurrency = told.concurrency || 1;
  const tools = {};
  for (const each of told.tools) tools[each.name] = make(each);
  Object.defineProperty(tools, 'ToolError', { value: ToolError });
  for (const [name, value] of Object.entries({ tools, ToolError })) {
    Object.defineProperty(world, name, { value, writable: true, configurable: true });
  }
}

function make({ name, signature, doc, parameters }) {
  const names = parameters.filter(isNamed).map((each) => each.name);
  const tool = { [name]: (...given) => call(tool, name, names, given) }[name];
  return Object.defineProperty(tool, DESCRIBED, { value: doc ? `${signature}\n\n${doc}` : signature });
}

function isNamed({ kind }) {
  return kind === 'POSITIONAL_OR_KEYWORD' || kind === 'KEYWORD_ONLY';
}

function call(tool, name, names, given) {
  const { args, kwargs } = sort(given, names);
  // Made here, for its stack is the caller's.
  const error = new ToolError();
  Error.captureStackTrace(error, tool);
  return new Promise((resolve, reject) => {
    let text;
    try {
      text = JSON.stringify({ args, kwargs }, plain);
    } catch (fault) {
      return reject(worded(error, `The arguments have no form in JSON: ${fault?.message}`));
    }
    waiting.push({ name, text, error, resolve, reject, cell: context.current });
    sendWaiting();
  });
}

function sort(given, names) {
  const last = given.at(-1);
  const keys = isPlain(last) ? Object.keys(last) : [];
  if (!keys.length || !keys.every((key) => names.includes(key))) return { args: given, kwargs: {} };
  return { args: given.slice(0, -1), kwargs: last };
}

function isPlain(value) {
  if (value === null || typeof value !== 'object') return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

// Bytes are base64; a Buffer has been made an object by its own `toJSON`.
function plain(key, value) {
  const own = this[key];
  if (!(own instanceof Uint8Array)) return value;
  return Buffer.from(own.buffer, own.byteOffset, own.byteLength).toString('base64');
}

function sendWaiting() {
  while (waiting.length && calls.size < concurrency) {
    const one = waiting.shift();
    if (one.cell?.isInterrupted) continue;
    count += 1;
    calls.set(String(count), one);
    emit('call', `${count},${one.name}`, one.text);
  }
}

function take({ argument, payload }) {
  const [number, how] = argument.split(',');
  const one = calls.get(number);
  if (!one) return;
  calls.delete(number);
  // What an interrupted cell waited for never comes: that it was interrupted says it all, and
  // may be about to be said.
  const isInterrupted = one.cell?.isInterrupted || (how === 'cancelled' && !one.cell?.isEnded);
  if (!isInterrupted) settle(one, how, payload.toString());
  sendWaiting();
}

function settle({ resolve, reject, error }, how, text) {
  const value = JSON.parse(text);
  if (how === 'ok') resolve(value);
  else reject(worded(error, value.message));
}

function worded(error, message) {
  const stack = error.stack;
  Object.defineProperty(error, 'message', { value: message, writable: true, configurable: true });
  error.stack = stack.replace(/^\w+/, () => `ToolError: ${message}`);
  return error;
}

module.exports = { offer, take };
