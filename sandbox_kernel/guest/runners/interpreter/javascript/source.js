// A cell's code, rewritten so that what it declares at the top outlives it.
//
//   let, const and var    are properties of the global object: each cell, and each function
//   class and function    of any cell, sees the newest value, and a cell can be run again
//   await                 makes the cell an async function; its functions are hoisted before
//   import, export        the first becomes an awaited call of ours, the second disappears
//   last expression       its value is the cell's
//
// Rule 1: code is changed where the parser says what it is, and nowhere else.
// Rule 2: lines stay lines. Where columns move, `Rewriting.find` knows the way back.

'use strict';

const { Array, JSON, Object, Set, String } = require('./globals.js');

const { Rewriting } = require('./rewriting.js');

const IMPORT = '$$import'; // see `modules`
const FUNCTION = /Function/;
const OPTIONS = {
  ecmaVersion: 'latest',
  sourceType: 'script',
  allowAwaitOutsideFunction: true,
  allowImportExportEverywhere: true,
  allowHashBang: true,
};

let acorn;

function parse(code) {
  acorn ??= load();
  return acorn.parse(code, OPTIONS);
}

function load() {
  try {
    return require('internal/deps/acorn/acorn/dist/acorn');
  } catch {
    return module.require('acorn'); // a Node.js built without its own
  }
}

function warmUp() {
  parse('0');
}

// What `run` in `cells` needs. Raises SyntaxError, with `position` where the parser knows it.
//   functions   a script to run first, or ""
//   main        the script that does the rest
//   isAsync     its value is a promise of [value], or of nothing
//   hasValue    there is a value to show
//   names       what is declared
//   find        line and column of `main` -> of `code`
function prepare(code) {
  const literal = asLiteral(code);
  const source = literal ?? code;
  const tree = parse(source);
  const found = new Findings();
  found.visit(tree, 0);
  const writer = new Writer(source, tree, found);
  const result = writer.write();
  const shift = literal === null ? 0 : 1;
  result.find = (line, column) => {
    const place = writer.rewriting.find(line, column);
    return place && [place[0], place[0] === 1 ? place[1] - shift : place[1]];
  };
  return result;
}

// `{a: 1}` alone is an object, not a block: as in Node's own prompt.
function asLiteral(code) {
  if (!isLiteral(code)) return null;
  const text = `(${code}\n)`;
  try {
    return parse(text).body.length === 1 ? text : null;
  } catch {
    return null;
  }
}

function isLiteral(code) {
  return /^\s*\{/.test(code) && !/;\s*$/.test(code);
}

// What matters in a cell, from its tree.
class Findings {
  constructor() {
    this.isAsync = false;
    this.imports = []; // import(…)
    this.metas = []; // import.meta
    this.nested = []; // var inside blocks
    this.heads = new Set(); // declarations in the head of a loop
  }

  visit(node, depth) {
    this.note(node, depth);
    const inside = FUNCTION.test(node.type) || node.type === 'StaticBlock' ? depth + 1 : depth;
    for (const key of Object.keys(node)) {
      const child = node[key];
      if (Array.isArray(child)) {
        for (const item of child) if (item?.type) this.visit(item, inside);
      } else if (child?.type) {
        this.visit(child, inside);
      }
    }
  }

  note(node, depth) {
    const { type } = node;
    if (type === 'ImportExpression') this.imports.push(node);
    else if (type === 'MetaProperty' && node.meta.name === 'import') this.metas.push(node);
    if (depth) return;
    if (type === 'AwaitExpression' || type === 'ImportDeclaration' || node.await === true) {
      this.isAsync = true;
    } else if (type === 'ForStatement' && node.init) {
      this.heads.add(node.init);
    } else if (type === 'ForOfStatement' || type === 'ForInStatement') {
      this.heads.add(node.left);
    } else if (type === 'VariableDeclaration') {
      if (node.kind === 'var') this.nested.push(node);
      if (node.kind === 'await using') this.isAsync = true;
    }
  }
}

class Writer {
  constructor(code, tree, found) {
    this.code = code;
    this.tree = tree;
    this.found = found;
    this.names = new Set();
    this.functions = [];
    this.rewriting = new Rewriting(code);
  }

  write() {
    const { found, rewriting } = this;
    for (const node of found.imports) {
      rewriting.replace(node.start, node.start + 'import'.length, IMPORT);
    }
    for (const node of found.metas) rewriting.replace(node.start, node.end, `${IMPORT}.meta`);
    const statements = this.tree.body.map((node) => this.unwrap(node)).filter(Boolean);
    for (const node of found.nested) this.noteNames(node);
    const last = lastOf(statements);
    for (const node of statements) this.writeStatement(node, node === last);
    if (found.isAsync) this.writeNested(statements);
    const functions = found.isAsync ? this.writeFunctions() : '';
    if (found.isAsync) rewriting.wrap('(async () => {', '\n})()');
    return {
      functions,
      main: rewriting.build(),
      isAsync: found.isAsync,
      hasValue: last !== undefined,
      names: [...this.names],
    };
  }

  // The statement that an `export` is about; nothing where it is about none.
  unwrap(node) {
    const { rewriting } = this;
    if (node.type === 'ExportAllDeclaration')
      return void rewriting.blank(node.start, node.end, ';');
    if (node.type !== 'ExportNamedDeclaration' && node.type !== 'ExportDefaultDeclaration') {
      return node;
    }
    const inner = node.declaration;
    if (!inner) return void rewriting.blank(node.start, node.end, ';');
    const isStatement = /Declaration$/.test(inner.type) && (inner.id || inner.declarations);
    rewriting.blank(node.start, inner.start, ';');
    if (isStatement) return inner;
    rewriting.insert(inner.start, '(');
    rewriting.insert(inner.end, ')');
    return { type: 'ExpressionStatement', start: inner.start, end: node.end, isWrapped: true };
  }

  writeStatement(node, isLast) {
    switch (node.type) {
      case 'VariableDeclaration':
        this.writeVariables(node);
        break;
      case 'ClassDeclaration':
        this.names.add(node.id.name);
        this.rewriting.insert(node.start, `${node.id.name}=`);
        this.rewriting.insert(node.end, ';');
        break;
      case 'FunctionDeclaration':
        this.names.add(node.id.name);
        if (this.found.isAsync) this.functions.push(node);
        break;
      case 'ImportDeclaration':
        this.writeImport(node);
        break;
      default:
        if (isLast && this.found.isAsync) this.writeResult(node);
    }
  }

  writeVariables(node) {
    if (/using/.test(node.kind)) return; // ends with its cell: that is what it is for
    this.noteNames(node);
    if (this.found.isAsync) return this.assign(node);
    if (node.kind === 'var') return;
    const { rewriting } = this;
    const { length } = node.kind;
    rewriting.replace(node.start, node.start + length, 'var'.padEnd(length));
    for (const { id, init, end } of node.declarations) {
      // A `let` without a value starts afresh; a `var` doesn't.
      if (!init && id.type === 'Identifier') rewriting.insert(end, '=void 0');
    }
    this.endStatement(node);
  }

  // Declarations as assignments, which may stand wherever they stood.
  assign(node) {
    const { rewriting } = this;
    rewriting.replace(node.start, node.start + node.kind.length, 'void');
    for (const { id, init, end } of node.declarations) {
      rewriting.insert(id.start, '(');
      rewriting.insert(end, !init && node.kind !== 'var' ? '=void 0)' : ')');
    }
    this.endStatement(node);
  }

  // What the line end ended before may not end any more.
  endStatement(node) {
    if (this.code[node.end - 1] !== ';') this.rewriting.insert(node.end, ';');
  }

  // `var` in blocks and loops of an async cell: a function's own, if it stayed.
  writeNested(statements) {
    const own = new Set(statements);
    for (const node of this.found.nested) {
      if (own.has(node)) continue;
      if (this.found.heads.has(node)) {
        this.rewriting.blank(node.start, node.start + 'var'.length);
      } else {
        this.assign(node);
      }
    }
  }

  noteNames(node) {
    for (const { id } of node.declarations) noteNames(id, this.names);
  }

  writeImport(node) {
    const targets = node.specifiers.map(({ local }) => local.name);
    const wanted = node.specifiers.map(({ type, imported }) => {
      if (type === 'ImportNamespaceSpecifier') return '*';
      return type === 'ImportDefaultSpecifier' ? 'default' : (imported.name ?? imported.value);
    });
    for (const name of targets) this.names.add(name);
    const attributes = (node.attributes ?? []).map((item) => [
      item.key.name ?? item.key.value,
      item.value.value,
    ]);
    const given = JSON.stringify([node.source.value, wanted, Object.fromEntries(attributes)]);
    const call = `await ${IMPORT}.names(...${given})`;
    const text = targets.length ? `void ([${targets.join()}] = ${call});` : `void (${call});`;
    const lines = this.code.slice(node.start, node.end).split('\n').length - 1;
    this.rewriting.replace(node.start, node.end, text + '\n'.repeat(lines));
  }

  // An array, lest a promise that is the value be awaited.
  writeResult(node) {
    const isEnded = this.code[node.end - 1] === ';';
    this.rewriting.insert(node.start, 'return [(');
    this.rewriting.insert(isEnded ? node.end - 1 : node.end, isEnded ? ')]' : ')];');
  }

  // They alone, where they stood; what remains of the cell has blanks there.
  writeFunctions() {
    if (!this.functions.length) return '';
    const alone = new Rewriting(this.code);
    let position = 0;
    for (const node of this.functions) {
      alone.blank(position, node.start);
      position = node.end;
      // What was to change inside of it changes there.
      const isInside = ({ start, end }) => start >= node.start && end <= node.end;
      for (const edit of this.rewriting.edits.filter(isInside)) {
        alone.replace(edit.start, edit.end, edit.text);
      }
      this.rewriting.edits = this.rewriting.edits.filter((edit) => !isInside(edit));
      this.rewriting.blank(node.start, node.end, ';');
    }
    alone.blank(position, this.code.length);
    return alone.build();
  }
}

// The statement whose value is the cell's. What a tool put behind it declares nothing new.
function lastOf(statements) {
  for (let at = statements.length - 1; at >= 0; at -= 1) {
    const node = statements[at];
    if (node.type === 'ExpressionStatement') return node;
    const isNothing =
      node.type === 'EmptyStatement' ||
      (node.type === 'VariableDeclaration' &&
        node.kind === 'var' &&
        node.declarations.every(({ init }) => !init));
    if (!isNothing) return undefined;
  }
  return undefined;
}

function noteNames(pattern, names) {
  switch (pattern?.type) {
    case 'Identifier':
      names.add(pattern.name);
      break;
    case 'ObjectPattern':
      for (const item of pattern.properties) noteNames(item.value ?? item.argument, names);
      break;
    case 'ArrayPattern':
      for (const item of pattern.elements) noteNames(item, names);
      break;
    case 'AssignmentPattern':
      noteNames(pattern.left, names);
      break;
    case 'RestElement':
      noteNames(pattern.argument, names);
      break;
  }
}

// "complete", "incomplete" or "invalid", and the indent of the next line.
function check(code) {
  try {
    parse(code);
    return ['complete', ''];
  } catch (error) {
    return isUnfinished(code, error) ? ['incomplete', indentOf(code)] : ['invalid', ''];
  }
}

function isUnfinished(code, error) {
  const message = String(error.message);
  if (/^Unterminated (template|comment)/.test(message)) return true;
  if (/^Unterminated string/.test(message)) return /\\\s*$/.test(code);
  return error.pos >= code.trimEnd().length && !/^Identifier/.test(message);
}

function indentOf(code) {
  const lines = code.trimEnd().split('\n');
  const last = lines[lines.length - 1];
  const indent = last.match(/^\s*/)[0];
  return /[[({]\s*$/.test(last) || /=>\s*$/.test(last) ? `${indent}  ` : indent;
}

module.exports = { check, indentOf, isLiteral, prepare, warmUp };
