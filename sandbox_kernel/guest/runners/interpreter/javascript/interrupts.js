// SIGINT ends the cell, wherever the program is.
//
//   in a cell's own code       `breakOnSigint` of the script ends it: an ordinary error
//   waiting for something      the watcher tells us, and the cell is given up
//   in a callback, a promise   the watcher has our execution terminated by the inspector,
//                              which no program can catch; then as above
//
// The first is done by `cells`. For the others a thread (see `watcher`) waits for SIGINT in a
// script with `breakOnSigint`, too: the newest such script gets the signal, so the cell's own
// comes first. No listener for SIGINT is ever there: libuv would take the signal from both.
//
// Rule 1: only a thread that has moved the state from RUNNING may go on (see `flags`); a cell
// that ends by itself moves it to IDLE first. So nothing is terminated but a running cell.

'use strict';

const path = require('path');

const { Atomics, process, setTimeout } = require('./globals.js');
const {
  flags,
  isState,
  loadBinding,
  move,
  STATE,
  READY,
  IDLE,
  RUNNING,
  ASKED,
  TERMINATED,
} = require('./flags.js');

// Longer than a front end takes from one cell to the next when it runs them all.
const SOON_MS = 200;
// Longer than any thread takes that starts at all.
const STARTED_MS = 2000;

let binding;
let isWatching = false;
let soon = null;
let onInterrupt = () => {};

// From here on SIGINT doesn't kill.
function prepare() {
  binding = loadBinding();
  binding('contextify').startSigintWatchdog();
  keepSignal('newListener', 'startListeningIfSignal');
  keepSignal('removeListener', 'stopListeningIfSignal');
}

// A program's own handler for SIGINT is not called: the signal means the cell.
function keepSignal(event, name) {
  for (const listener of process.listeners(event)) {
    if (listener.name !== name) continue;
    process.removeListener(event, listener);
    process.on(event, (type) => type === 'SIGINT' || listener(type));
  }
}

// Start the thread, once. It waits some 40 ms later; SIGINT is lost until then, and repeated
// by the adapter.
function watch() {
  if (isWatching) return;
  isWatching = true;
  const { Worker } = require('worker_threads');
  const thread = new Worker(path.join(__dirname, 'watcher.js'), {
    workerData: flags,
    execArgv: ['--expose-internals'],
    argv: [],
    env: {},
    stdin: false,
    resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 4 },
  });
  thread.on('message', notice);
  thread.on('error', () => Atomics.store(flags, READY, 1)); // no memory, or no thread, for it
  thread.unref();
}

function watchSoon() {
  if (!isWatching) soon ??= setTimeout(watch, SOON_MS).unref();
}

// A thread that starts opens descriptors; whoever needs to be alone with them waits for that.
function awaitThread() {
  if (!isWatching) return;
  const { performance } = require('perf_hooks');
  const end = performance.now() + STARTED_MS;
  while (!Atomics.load(flags, READY) && performance.now() < end) Atomics.wait(flags, READY, 0, 5);
  Atomics.store(flags, READY, 1);
}

function notice() {
  if (isState(TERMINATED)) {
    // What was terminated did not tidy up behind itself.
    binding('async_wrap').clearAsyncIdStack();
  }
  if (move(ASKED, IDLE) || move(TERMINATED, IDLE)) onInterrupt();
}

// A cell begins. `listener` is called when it has to be given up.
function arm(listener) {
  onInterrupt = listener;
  // Termination leaves the ids of callbacks on a stack, which is fatal where it is checked.
  const { async_hook_fields: fields, constants } = binding('async_wrap');
  fields[constants.kCheck] = 0;
  Atomics.store(flags, STATE, RUNNING);
}

// A cell has ended by itself; false if it is being interrupted, and ends by that.
function disarm() {
  return isState(IDLE) || move(RUNNING, IDLE) || move(ASKED, IDLE);
}

module.exports = { prepare, watch, watchSoon, awaitThread, arm, disarm };
