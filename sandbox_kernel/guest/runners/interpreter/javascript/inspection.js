// Completion, inspection, and whether code is complete.
//
// Rule 1: nothing of the program runs: names are looked up, property after property, and an
// accessor or a proxy on the way ends the search. Only getters that were there before are called.

'use strict';

const {
  Array,
  Buffer,
  Function,
  Map,
  Number,
  Object,
  RegExp,
  Set,
  String,
  Symbol,
  process,
  world,
} = require('./globals.js');
const fs = require('fs');
const Module = require('module');
const path = require('path');
const util = require('util');

const { emit } = require('./channel.js');
const { getters } = require('./modules.js');

const MAX_MATCHES = 1000;
const IDENTIFIER = /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u;
const NAME = '[\\p{ID_Start}$_][\\p{ID_Continue}$]*';
const STEP = `(?:\\s*\\??\\.\\s*${NAME}|\\[\\d+\\]|\\["[^"\\\\\\n]*"\\]|\\['[^'\\\\\\n]*'\\])`;
const CHAIN = new RegExp(`(${NAME}${STEP}*)\\s*\\??\\.\\s*(${NAME})?$`, 'u');
const LITERAL = /(["'`\]])\s*\??\.\s*([\p{ID_Continue}$]*)$/u;
const WORD = new RegExp(`(?<![\\p{ID_Continue}$.])(${NAME})?$`, 'u');
const SPECIFIER = /(?:\brequire\s*\(\s*|\bimport\s*\(\s*|\bfrom\s+|\bimport\s+)(["'`])([^"'`\n]*)$/;
const DECLARED = new RegExp(`\\b(?:let|const|var|class|function\\s*\\*?)\\s+(${NAME})`, 'gu');
const KEYWORDS = (
  'async await break case catch class const continue debugger default delete do else export ' +
  'extends false finally for from function if import in instanceof let new null of return ' +
  'static super switch this throw true try typeof undefined var void while with yield'
).split(' ');
const NOTHING = Symbol('nothing');

// --- lookup -----------------------------------------------------------------------------

function lookUp(chain) {
  const steps = chain.match(new RegExp(`${NAME}|\\[\\d+\\]|\\["[^"]*"\\]|\\['[^']*'\\]`, 'gu'));
  let value = world;
  for (const [at, step] of steps.entries()) {
    const key = /^\[\d/.test(step) ? step.slice(1, -1) : step.replace(/^\[.|.\]$/g, '');
    if (at === 0 && step === 'this') continue;
    value = property(value, key, true);
    if (value === NOTHING) break;
  }
  return value;
}

// `calls`: whether a getter that is known to be harmless is called.
function property(owner, key, calls = false) {
  if (owner === null || owner === undefined) return NOTHING;
  for (let at = Object(owner); at; at = Object.getPrototypeOf(at)) {
    if (util.types.isProxy(at)) return NOTHING;
    const found = Object.getOwnPropertyDescriptor(at, key);
    if (!found) continue;
    if ('value' in found) return found.value;
    return calls && getters.has(found.get) ? tryGet(owner, found.get) : NOTHING;
  }
  return NOTHING;
}

function tryGet(owner, get) {
  try {
    return get.call(owner);
  } catch {
    return NOTHING;
  }
}

// Names of properties, an object's own before those of its prototypes.
function namesOf(value) {
  const names = new Set();
  for (let at = Object(value); at; at = Object.getPrototypeOf(at)) {
    if (util.types.isProxy(at)) break;
    const isIndexed = Array.isArray(at) || util.types.isTypedArray(at);
    const own = isIndexed
      ? Object.getOwnPropertyNames(Object.getPrototypeOf(at))
      : Object.getOwnPropertyNames(at);
    for (const name of own.sort()) if (IDENTIFIER.test(name)) names.add(name);
    if (names.size > MAX_MATCHES) break;
  }
  return names;
}

function kindOf(value) {
  if (value === NOTHING) return 'property';
  if (typeof value !== 'function') return 'instance';
  return /^class\b/.test(sourceOf(value)) ? 'class' : 'function';
}

function sourceOf(value) {
  return Function.prototype.toString.call(value);
}

// --- completion -------------------------------------------------------------------------

function complete({ argument, payload }) {
  const before = payload.subarray(0, Number(argument)).toString();
  const { start, matches } = findMatches(before, payload.toString());
  for (const [text, kind] of matches.slice(0, MAX_MATCHES)) emit('match', kind, text);
  emit('completed', Buffer.byteLength(before.slice(0, start)));
}

function findMatches(before, code) {
  const specifier = SPECIFIER.exec(before);
  if (specifier) return matchModules(before, specifier[2]);
  const chain = CHAIN.exec(before);
  if (chain) return matchProperties(before, lookUp(chain[1]), chain[2] ?? '');
  const literal = LITERAL.exec(before);
  if (literal) return matchProperties(before, literal[1] === ']' ? [] : '', literal[2]);
  const word = WORD.exec(before)?.[1] ?? '';
  if (/\.\s*$/.test(before.slice(0, before.length - word.length))) return none(before);
  return matchNames(before, word, code);
}

function none(before) {
  return { start: before.length, matches: [] };
}

function matchProperties(before, owner, typed) {
  if (owner === NOTHING || owner === null || owner === undefined) return none(before);
  const matches = [...namesOf(owner)]
    .filter((name) => name.startsWith(typed))
    .map((name) => [name, kindOf(property(owner, name))]);
  return { start: before.length - typed.length, matches };
}

function matchNames(before, typed, code) {
  const found = new Map();
  const add = (name, kind) => {
    if (name.startsWith(typed) && !found.has(name)) found.set(name, kind);
  };
  for (const name of Object.keys(world)) add(name, kindOf(property(world, name)));
  for (const [, name] of code.matchAll(DECLARED)) if (name !== typed) add(name, 'instance');
  for (const name of KEYWORDS) add(name, 'keyword');
  for (const name of namesOf(world)) {
    if (typed || !name.startsWith('_')) add(name, kindOf(property(world, name)));
  }
  found.delete('$$import');
  return { start: before.length - typed.length, matches: [...found] };
}

function matchModules(before, typed) {
  const names = /^\.{0,2}\//.test(typed) ? files(typed) : [...libraries(typed), ...packages()];
  const matches = [...new Set(names)]
    .filter((name) => name.startsWith(typed))
    .map((name) => [name, 'module']);
  return { start: before.length - typed.length, matches };
}

function libraries(typed) {
  const names = Module.builtinModules.filter((name) => !/^_|^internal\//.test(name));
  return typed.startsWith('node') ? names.map((name) => `node:${name}`) : names;
}

function packages() {
  const roots = [...Module._nodeModulePaths(process.cwd()), ...Module.globalPaths];
  return roots.flatMap((root) =>
    list(root).flatMap((name) =>
      name.startsWith('@') ? list(path.join(root, name)).map((inner) => `${name}/${inner}`) : name,
    ),
  );
}

function files(typed) {
  const folder = typed.slice(0, typed.lastIndexOf('/') + 1);
  return list(path.resolve(folder)).map((name) => folder + name);
}

function list(directory) {
  try {
    return fs
      .readdirSync(directory)
      .filter((name) => !name.startsWith('.'))
      .slice(0, MAX_MATCHES);
  } catch {
    return [];
  }
}

// --- inspection -------------------------------------------------------------------------

const WHOLE = new RegExp(`${NAME}${STEP}*`, 'gu');

function inspect({ argument, payload }) {
  const [offset, detail] = argument.split(',').map(Number);
  const position = payload.subarray(0, offset).toString().length;
  const found = chainAt(payload.toString(), position);
  const value = found ? lookUp(found) : NOTHING;
  if (value !== NOTHING) emit('data', 'text/plain', describe(found, value, detail));
  emit('inspected', value === NOTHING ? '0' : '1');
}

// The name that the cursor is in or behind, or whose call it is in.
function chainAt(code, position) {
  for (const match of code.matchAll(WHOLE)) {
    if (match.index > position) break;
    if (position > match.index + match[0].length) continue;
    // Up to the end of the word under the cursor.
    const rest = /^[\p{ID_Continue}$]*/u.exec(code.slice(position))[0].length;
    return code.slice(match.index, position + rest).replace(/[\s?]*\.?\s*$/, '') || null;
  }
  const call = new RegExp(`(${NAME}${STEP}*)\\s*\\([^()]*$`, 'u').exec(code.slice(0, position));
  return call ? call[1] : null;
}

function describe(name, value, isDetailed) {
  if (typeof value === 'function') return describeFunction(name, value, isDetailed);
  const lines = [
    `${name}: ${typeName(value)}`,
    '',
    util.inspect(value, { depth: isDetailed ? 4 : 1, showProxy: true }),
  ];
  return lines.join('\n');
}

function typeName(value) {
  if (value === null || typeof value !== 'object') return value === null ? 'null' : typeof value;
  if (util.types.isProxy(value)) return 'Proxy';
  const maker = property(value, 'constructor');
  return typeof maker === 'function' && maker.name ? String(maker.name) : 'Object';
}

function describeFunction(name, value, isDetailed) {
  const told = Object.getOwnPropertyDescriptor(value, Symbol.for('sandbox.described'))?.value;
  if (told) return String(told);
  const source = sourceOf(value);
  const isNative = /\{\s*\[native code\]\s*\}$/.test(source);
  const isClass = /^class\b/.test(source);
  const lines = [`${name}: ${isClass ? 'class' : signature(name, value, source, isNative)}`];
  if (isClass) {
    const { constructor: _, ...members } = Object.getOwnPropertyDescriptors(value.prototype);
    lines.push('', ...Object.keys(members).map((member) => `  ${member}`));
  }
  if (isDetailed && !isNative) lines.push('', source);
  return lines.join('\n');
}

function signature(name, value, source, isNative) {
  if (isNative) return `function with ${value.length} required arguments (built in)`;
  const head = /^((?:async\s+)?(?:function\s*\*?\s*)?[^\n]*?)\s*(?:\{|=>)/.exec(source);
  return head ? head[1] : 'function';
}

// --- check ------------------------------------------------------------------------------

function check({ payload }, isTypeScript) {
  const code = payload.toString();
  const judge = isTypeScript ? require('./typescript.js') : require('./source.js');
  const [status, indent] = judge.check(code);
  emit('checked', status, indent);
}

module.exports = { check, complete, inspect };
