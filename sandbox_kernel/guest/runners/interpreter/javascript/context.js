// Which cell the running code belongs to.
//
// Where Node.js follows asynchronous calls for free (24 and newer) it is the one that began
// them; elsewhere that makes every promise three times as slow, and is fatal when a callback
// is terminated, so it is the cell that is running now.

'use strict';

const { Number, process } = require('./globals.js');

const isFree = Number(process.versions.node.split('.')[0]) >= 24;

const context = {
  current: null, // the cell that is running
  newest: 0, // its number, or that of the last one
  enter,
  leave,
  run,
  cell,
};

let storage;

function enter(cell) {
  context.current = cell;
  context.newest = cell.number;
}

function leave() {
  context.current = null;
}

function run(cell, body) {
  if (!isFree) return body();
  storage ??= new (require('async_hooks').AsyncLocalStorage)();
  return storage.run(cell, body);
}

function cell() {
  return storage?.getStore() ?? context.current;
}

module.exports = context;
