// The two pipes to the adapter: requests come in, events go out, questions wait.
//
// Rule 1: an event leaves by one write, at once, and whole: a termination (see `interrupts`)
// never cuts it, because neither begins while the other is under way.
// Rule 2: the pipes have numbers of our own that close on exec, so that no child gets them.

'use strict';

const { Atomics, Buffer, Error, Number, process, setImmediate } = require('./globals.js');
const fs = require('fs');
const net = require('net');

const { flags, isState, LOCK, NEVER, TERMINATING } = require('./flags.js');

const { O_NONBLOCK, O_RDONLY, O_WRONLY } = fs.constants;
const LOST = 70;
const MAX_PAUSE_MS = 10;

const requests = takeOver(3, O_RDONLY | O_NONBLOCK);
const events = takeOver(4, O_WRONLY);

let received = Buffer.alloc(0);
// What came while a question was waiting for its answer.
const early = [];
let onRequest = () => {};

// Opened again, the descriptor is ours alone: not inherited, and not blocking if we like.
function takeOver(fd, mode) {
  try {
    const own = fs.openSync(`/proc/self/fd/${fd}`, mode);
    fs.closeSync(fd);
    return own;
  } catch {
    return fd;
  }
}

// `payload` is a text or bytes.
function emit(kind, argument, payload = '') {
  const isText = typeof payload === 'string';
  const length = isText ? Buffer.byteLength(payload) : payload.byteLength;
  const header = `${kind} ${argument} ${length}\n`;
  const message = Buffer.allocUnsafe(header.length + length);
  message.latin1Write(header, 0);
  if (isText) message.utf8Write(payload, header.length);
  else message.set(payload, header.length);
  Atomics.store(flags, LOCK, 1);
  if (isState(TERMINATING)) {
    Atomics.store(flags, LOCK, 0);
    for (;;) Atomics.wait(flags, NEVER, 0, MAX_PAUSE_MS); // until it comes
  }
  write(message);
  Atomics.store(flags, LOCK, 0);
}

function write(message) {
  let offset = 0;
  while (offset < message.length) {
    try {
      offset += fs.writeSync(events, message, offset);
    } catch (error) {
      if (error.code !== 'EAGAIN') process.reallyExit(LOST);
      Atomics.wait(flags, NEVER, 0, 1);
    }
  }
}

function listen(handle) {
  onRequest = handle;
  // On what could not be opened again this makes the descriptor non-blocking, too.
  const socket = new net.Socket({ fd: requests, readable: true, writable: false });
  socket.on('data', (chunk) => {
    feed(chunk);
    handleAll();
  });
  socket.on('close', () => process.reallyExit(0));
  socket.on('error', () => process.reallyExit(LOST));
}

function handleAll() {
  for (let request; (request = early.shift() ?? next());) {
    if (request.kind !== 'answer') onRequest(request); // answers to a question given up
  }
}

function feed(chunk) {
  received = received.length ? Buffer.concat([received, chunk]) : chunk;
}

function next() {
  const end = received.indexOf(10);
  if (end < 0) return null;
  const words = received.latin1Slice(0, end).split(' ');
  const total = end + 1 + Number(words[2]);
  if (received.length < total) return null;
  const payload = received.subarray(end + 1, total);
  received = received.subarray(total);
  return { kind: words[0], argument: words[1], payload };
}

// Ask the reader, and wait for the answer with everything else at rest.
function ask(prompt, isPassword = false) {
  emit('input', isPassword ? '1' : '0', prompt);
  const chunk = Buffer.alloc(65536);
  let pause = 1;
  for (;;) {
    const answer = next();
    if (answer?.kind === 'answer') {
      if (early.length || received.length) setImmediate(handleAll);
      if (answer.argument === 'ok') return answer.payload.toString();
      throw new Error('This client cannot answer questions.');
    }
    if (answer) {
      early.push(answer);
      continue;
    }
    const size = receive(chunk);
    if (size > 0) feed(Buffer.from(chunk.subarray(0, size)));
    else if (size === 0) process.reallyExit(0);
    else Atomics.wait(flags, NEVER, 0, (pause = pause < MAX_PAUSE_MS ? pause + 1 : pause));
  }
}

// -1: nothing is there now.
function receive(chunk) {
  try {
    return fs.readSync(requests, chunk);
  } catch (error) {
    if (error.code === 'EAGAIN') return -1;
    process.reallyExit(LOST);
  }
}

module.exports = { emit, listen, ask };
