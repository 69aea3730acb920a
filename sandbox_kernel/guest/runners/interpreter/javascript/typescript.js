// TypeScript to JavaScript: the types go, everything else stays where it was.
//
//   Node.js 22.13 and newer   its own stripper; it transforms where there is more than types
//                             (enums, namespaces, parameter properties)
//   older ones                the package `typescript`, from wherever `require` finds it
//
// Nothing is checked: a notebook runs what it is given, as every runner of TypeScript does.

'use strict';

const { Buffer, JSON, Number, String, SyntaxError, process } = require('./globals.js');
const Module = require('module');
const path = require('path');

const { toLine } = require('./rewriting.js');
const { isLiteral } = require('./source.js');

// Where Debian puts packages, and where `npm install -g` does.
const PLACES = [
  '/usr/share/nodejs',
  '/usr/lib/node_modules',
  '/usr/local/lib/node_modules',
  path.join(path.dirname(process.execPath), '..', 'lib', 'node_modules'),
];
const SOURCE_URL = /\n*\/\/# sourceURL=.*\s*$/;
const SOURCE_MAP = /\n*\/\/# sourceMappingURL=data:application\/json;base64,([\w+/=]+)\s*$/;

let packagePath = '';

// Whether there is a tool.
function find() {
  return Boolean(Module.stripTypeScriptTypes) || Boolean(findPackage());
}

function findPackage() {
  if (packagePath) return packagePath;
  const fromHere = Module.createRequire(path.join(process.cwd(), 'cell.js'));
  const names = ['typescript', ...PLACES.map((place) => path.join(place, 'typescript'))];
  for (const name of names) {
    try {
      return (packagePath = fromHere.resolve(name));
    } catch {
      // the next one
    }
  }
  return '';
}

// {code, find}: JavaScript, and the way from its lines and columns back.
// Raises SyntaxError with `position`: [line, column], or none.
function strip(code, name) {
  const byTool = Module.stripTypeScriptTypes ? stripByNode : stripByPackage;
  if (!isLiteral(code)) return byTool(code, name);
  try {
    return stripLiteral(code, name, byTool);
  } catch {
    return byTool(code, name); // a block it is
  }
}

// As in `source`: `{a: 1}` alone is an object.
function stripLiteral(code, name, byTool) {
  const { code: text, find } = byTool(`(${code}\n)`, name);
  return {
    code: text,
    find: (line, column) => {
      const [atLine, atColumn] = find ? find(line, column) : [line, column];
      return [atLine, atLine === 1 ? atColumn - 1 : atColumn];
    },
  };
}

function stripByNode(code, name) {
  try {
    const text = ask(code, { sourceUrl: name });
    return { code: text.replace(SOURCE_URL, ''), find: null };
  } catch (error) {
    if (error.code !== 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX') throw refuse(code, error);
  }
  try {
    const text = ask(code, { mode: 'transform', sourceMap: true });
    const found = SOURCE_MAP.exec(text);
    const map = found && JSON.parse(Buffer.from(found[1], 'base64').toString());
    return { code: text.replace(SOURCE_MAP, ''), find: finder(map) };
  } catch (error) {
    throw refuse(code, error);
  }
}

function ask(code, how) {
  const { emitWarning } = process;
  process.emitWarning = () => {}; // that this is experimental
  try {
    return Module.stripTypeScriptTypes(code, how);
  } finally {
    process.emitWarning = emitWarning;
  }
}

// Node puts line, source and a caret before the stack, and no caret at the end of a line.
function refuse(code, error) {
  const refusal = new SyntaxError(error.message);
  const [place, ...rest] = String(error.stack).split('\n');
  const line = Number(/:(\d+)$/.exec(place)?.[1]);
  if (line) {
    const end = rest.indexOf('');
    const caret = rest.slice(0, end < 0 ? 0 : end).find((text) => /^\s*\^+$/.test(text));
    const source = code.split('\n')[line - 1] ?? '';
    refusal.position = [line, (caret === undefined ? source.length : caret.indexOf('^')) + 1];
  }
  return refusal;
}

function stripByPackage(code) {
  const typescript = require(findPackage());
  const { outputText, sourceMapText, diagnostics } = typescript.transpileModule(code, {
    reportDiagnostics: true,
    compilerOptions: options(typescript),
  });
  const fault = diagnostics.find(({ category }) => category === 1);
  if (fault) {
    const refusal = new SyntaxError(
      typescript.flattenDiagnosticMessageText(fault.messageText, '\n'),
    );
    refusal.position = toLine(code, fault.start ?? 0);
    throw refusal;
  }
  const text = outputText.replace(/\n?\/\/# sourceMappingURL=.*\s*$/, '');
  return { code: text, find: finder(JSON.parse(sourceMapText)) };
}

// An import that seems unused may be used by the next cell.
function options(typescript) {
  const { ESNext } = typescript.ScriptTarget;
  const isNew = Number(typescript.version.split('.')[0]) >= 5;
  return {
    target: ESNext,
    module: typescript.ModuleKind.ESNext,
    isolatedModules: true,
    sourceMap: true,
    experimentalDecorators: true,
    ...(isNew ? { verbatimModuleSyntax: true } : { preserveValueImports: true }),
  };
}

function finder(map) {
  if (!map) return null;
  let lines;
  return (line, column) => {
    lines ??= new Module.SourceMap(map);
    const { originalLine, originalColumn } = lines.findEntry(line - 1, column - 1);
    return originalLine === undefined ? [line, column] : [originalLine + 1, originalColumn + 1];
  };
}

// As `check` of `source`.
function check(code) {
  const source = require('./source.js');
  try {
    return source.check(strip(code, 'cell').code);
  } catch (error) {
    const [line, column] = error.position ?? [1, 1];
    const lines = code.trimEnd().split('\n');
    const isAtEnd =
      line > lines.length || (line === lines.length && column > lines[line - 1].length);
    const isUnfinished = isAtEnd || /<eof>|^Unterminated template/.test(error.message);
    return isUnfinished ? ['incomplete', source.indentOf(code)] : ['invalid', ''];
  }
}

// Its first use takes a while.
function warmUp() {
  strip('0', 'cell');
}

module.exports = { check, find, strip, warmUp };
