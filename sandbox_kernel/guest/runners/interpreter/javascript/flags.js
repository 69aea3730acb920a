// What the main thread and the one that waits for SIGINT share: a few numbers.
//
// Rule: each state is left by one thread alone, which says so in one step (`move`).

'use strict';

const { Atomics, Int32Array, SharedArrayBuffer, process } = require('./globals.js');

// Where which number is.
const STATE = 0; // one of those below
const LOCK = 1; // 1 while an event is being written
const NEVER = 2; // stays 0: to wait for it is to sleep
const READY = 3; // 1 once the other thread waits

const IDLE = 0; // nothing to interrupt
const RUNNING = 1; // a cell is running, or waiting
const ASKED = 2; // SIGINT came; the main thread may still take notice by itself
const TERMINATING = 3; // it didn't: what it runs is being terminated
const TERMINATED = 4; // done; it has to end the cell

let flags = new Int32Array(new SharedArrayBuffer(16));

// The other thread takes the main one's in place of its own.
function adopt(theirs) {
  flags = theirs;
}

function isState(state) {
  return Atomics.load(flags, STATE) === state;
}

// False: it was not `from`.
function move(from, to) {
  return Atomics.compareExchange(flags, STATE, from, to) === from;
}

// Node's own modules, for what has no public name.
function loadBinding() {
  const { emitWarning } = process;
  process.emitWarning = () => {}; // that this is for tests
  const binding = require('internal/test/binding').internalBinding;
  process.emitWarning = emitWarning;
  return binding;
}

module.exports = {
  get flags() {
    return flags;
  },
  adopt,
  isState,
  loadBinding,
  move,
  STATE,
  LOCK,
  NEVER,
  READY,
  IDLE,
  RUNNING,
  ASKED,
  TERMINATING,
  TERMINATED,
};
