// What an error tells the reader: name, value, and the part of the stack that is theirs.
//
// Rule 1: positions are those of the cell as it was written, frames are the reader's own.
// Rule 2: an error is a value of the program, and may be anything, with traps in it.

'use strict';

const { Error, Map, Math, Number, String, SyntaxError } = require('./globals.js');
const path = require('path');
const util = require('util');
const vm = require('vm');

const { toLine } = require('./rewriting.js');

const OURS = path.dirname(__dirname);
const PLACE = /\b(Cell\[\d+\]|expression):(\d+):(\d+)/;
const FRAME = /^\s+(at |\.\.\. \d+ lines matching cause)/;
// Of a cell's own require() it says no more than that.
const STACK_OF_REQUIRES =
  /\nRequire stack:(\n- \S*cell\.js)+|,?\n\s+requireStack: \[ '\S*cell\.js' \]/g;
// Cells whose source lines can be shown.
const REMEMBERED = 1000;

const cells = new Map();

class Interrupted extends Error {
  constructor() {
    super('The cell was interrupted.');
    this.name = 'Interrupted';
    this.stack = `${this.name}: ${this.message}`;
  }
}

function isInterrupted(error) {
  return error instanceof Interrupted;
}

// `find`: line and column of what runs -> of `code`.
function remember(name, code, find) {
  cells.delete(name);
  cells.set(name, { code, find });
  if (cells.size > REMEMBERED) cells.delete(cells.keys().next().value);
}

// {ename, evalue, trace}: texts.
function describe(error) {
  try {
    if (error?.isExit) return describeExit(error);
    if (isInterrupted(error)) return describeInterrupt(error);
    return util.types.isNativeError(error) || error instanceof Error
      ? describeError(error)
      : describeValue(error);
  } catch {
    return { ename: 'Error', evalue: '', trace: ['An error that cannot be shown.'] };
  }
}

function describeExit({ code }) {
  const trace = [`SystemExit: process.exit(${code}) ended the cell; variables are kept.`];
  return { ename: 'SystemExit', evalue: String(code), trace };
}

function describeInterrupt({ name, message }) {
  return { ename: name, evalue: message, trace: [`${name}: ${message}`] };
}

function describeValue(value) {
  const text = util.inspect(value);
  return { ename: 'Uncaught', evalue: text, trace: [`Uncaught ${text}`] };
}

function describeError(error) {
  const ename = nameOf(error);
  const evalue = String(error.message ?? '').replace(STACK_OF_REQUIRES, '');
  if (error instanceof SyntaxError && error.position && error.cell) {
    const trace = [...excerpt(error.cell, ...error.position), '', `${ename}: ${evalue}`];
    return { ename, evalue, trace };
  }
  const text = util.inspect(error);
  const trace = clean(text).split('\n');
  const top = placeOfFrame(text);
  return { ename, evalue, trace: top ? [...excerpt(...top), '', ...trace] : trace };
}

function nameOf(error) {
  const own = error.constructor?.name;
  return String((error.name === 'Error' && own) || error.name || own || 'Error');
}

// A text with a stack in it, without the frames that are ours or Node's, in the cells' terms.
function clean(text) {
  const lines = [];
  for (const line of text.replace(STACK_OF_REQUIRES, '').split('\n')) {
    const kept = !FRAME.test(line) ? [line] : isTheirs(line) ? relocate(line) : [];
    lines.push(...kept);
    // The properties of an error come behind its last frame.
    if (!kept.length && line.endsWith(' {')) lines[lines.length - 1] += ' {';
  }
  return lines.join('\n');
}

function isTheirs(line) {
  return !/\(?node:|^\s+\.\.\./.test(line) && !line.includes(OURS);
}

// The frame of a cell as written; none where it is what we put around the cell.
function relocate(line) {
  const [all, name, row, column] = PLACE.exec(line) ?? [];
  const known = all && cells.get(name);
  if (!known?.find) return [line];
  const place = known.find(Number(row), Number(column));
  return place ? [line.replace(all, `${name}:${place.join(':')}`)] : [];
}

function placeOfFrame(text) {
  for (const line of text.split('\n')) {
    const [, name, row, column] = (FRAME.test(line) && PLACE.exec(line)) || [];
    const place = name && cells.get(name)?.find?.(Number(row), Number(column));
    if (place) return [name, ...place];
  }
  return null;
}

// As Node.js shows where an error comes from.
function excerpt(name, line, column) {
  const text = cells.get(name)?.code.split('\n')[line - 1];
  if (text === undefined) return [`${name}:${line}`];
  // Long lines are made by tools; what is before the mark may have tabs.
  if (text.length > 500) return [`${name}:${line}:${column}`];
  const mark = text.slice(0, column - 1).replace(/[^\t]/g, ' ');
  return [`${name}:${line}:${column}`, text, `${mark}^`];
}

// The refusal of `code` (which runs for the cell `name`): the parser's, or V8's, which words it
// better. V8 knows no import outside of modules, and what it says of that is not the reason.
function refuse(code, name, fault) {
  if (fault?.name !== 'SyntaxError') return fault;
  if (fault.pos >= code.trimEnd().length && /^Unexpected token/.test(fault.message)) {
    return locate('Unexpected end of input', name, toLine(code, code.trimEnd().length));
  }
  const other = compileAsFunction(code, name);
  const isBetter = other !== null && !/\b(import|export|module)\b/.test(other.message);
  if (isBetter) return locate(other.message, name, other.place);
  const message = String(fault.message).replace(/ \(\d+:\d+\)$/, '');
  return locate(message, name, toLine(code, fault.pos ?? 0));
}

const PREFIX = '(async () => {';

function compileAsFunction(code, name) {
  try {
    new vm.Script(`${PREFIX}${code}\n})`, { filename: name });
    return null;
  } catch (error) {
    const [line, column] = placeOf(error) ?? [1, 1];
    const place = [line, line === 1 ? Math.max(1, column - PREFIX.length) : column];
    return { message: String(error.message), place };
  }
}

// Where V8 says that it cannot compile: line, source and carets come before the stack.
function placeOf(error) {
  const lines = String(error.stack).split('\n', 3);
  const line = /:(\d+)$/.exec(lines[0]);
  if (!line) return null;
  const mark = String(lines[2]).indexOf('^');
  return [Number(line[1]), (mark < 0 ? lines[1].length : mark) + 1];
}

// An error of the cell's text rather than of its run.
function locate(message, name, position) {
  const error = new SyntaxError(message);
  error.cell = name;
  error.position = position;
  return error;
}

module.exports = {
  Interrupted,
  OURS,
  clean,
  describe,
  isInterrupted,
  locate,
  placeOf,
  refuse,
  remember,
};
