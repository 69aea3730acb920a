// The thread that waits for SIGINT, while the main one may be busy (see `interrupts`).

'use strict';

const { parentPort, workerData } = require('worker_threads');

const { Atomics, Promise, setTimeout, world } = require('./globals.js');
const states = require('./flags.js');

const { adopt, isState, loadBinding, move } = states;
const { LOCK, READY, RUNNING, ASKED, TERMINATING, TERMINATED } = states;

// How long a main thread that is not busy takes to notice; it is a matter of microseconds.
const NOTICE_MS = 25;
// A termination may meet one of many callbacks, all busy: then the next is terminated.
const AGAIN_MS = 100;

const flags = workerData;

async function serve() {
  const vm = require('vm');
  const binding = loadBinding();
  // Without this the signal would kill while no script waits for it.
  binding('contextify').startSigintWatchdog();
  world.flags = flags;
  const wait = new vm.Script('for (;;) Atomics.wait(flags, 2, 0)');
  Atomics.store(flags, READY, 1);
  Atomics.notify(flags, READY);
  for (;;) {
    try {
      wait.runInThisContext({ breakOnSigint: true });
    } catch {
      if (move(RUNNING, ASKED)) await interrupt();
    }
  }
}

async function interrupt() {
  parentPort.postMessage(0);
  if (await hasLeft(ASKED, NOTICE_MS)) return;
  if (!move(ASKED, TERMINATING)) return;
  do {
    while (Atomics.load(flags, LOCK)) await pause(1);
    await terminate();
    if (!move(TERMINATING, TERMINATED)) return;
    parentPort.postMessage(0);
  } while (!(await hasLeft(TERMINATED, AGAIN_MS)) && move(TERMINATED, TERMINATING));
}

async function hasLeft(state, ms) {
  for (; isState(state); ms -= 1) {
    if (ms <= 0) return false;
    await pause(1);
  }
  return true;
}

// End what the main thread is doing. It is told by its own answer that it has come to that;
// while it does nothing at all, a message makes it do something.
async function terminate() {
  const { Session } = require('inspector');
  const session = new Session();
  session.connectToMainThread();
  let isDone = false;
  session.post('Runtime.terminateExecution', () => (isDone = true));
  for (let turn = 1; !isDone; turn += 1) {
    await pause(1);
    if (turn % 20 === 0) parentPort.postMessage(0);
  }
  session.disconnect();
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

adopt(flags);
serve();
