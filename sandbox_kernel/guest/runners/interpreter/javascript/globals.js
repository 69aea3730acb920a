// The globals that we use, kept before a cell could replace one of them.
//
// Rule: every file here takes them from this one. (The parser is Node's and doesn't: a cell that
// declares a `String` or `Object` of its own ends the notebook's JavaScript, until a restart.)

'use strict';

const {
  Array,
  Atomics,
  Buffer,
  clearImmediate,
  clearTimeout,
  Error,
  Function,
  Int32Array,
  JSON,
  Map,
  Math,
  Number,
  Object,
  process,
  Promise,
  RegExp,
  Set,
  setImmediate,
  setTimeout,
  SharedArrayBuffer,
  String,
  Symbol,
  SyntaxError,
  TypeError,
  Uint8Array,
  URL,
} = globalThis;
const world = globalThis;

module.exports = {
  Array,
  Atomics,
  Buffer,
  clearImmediate,
  clearTimeout,
  Error,
  Function,
  Int32Array,
  JSON,
  Map,
  Math,
  Number,
  Object,
  process,
  Promise,
  RegExp,
  Set,
  setImmediate,
  setTimeout,
  SharedArrayBuffer,
  String,
  Symbol,
  SyntaxError,
  TypeError,
  Uint8Array,
  URL,
  world,
};
