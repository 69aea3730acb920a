// `require` and `import` as cells have them: the workspace first, then attached packages.
//
// `require` finds attached packages by NODE_PATH. `import` knows no such path, so a bare name
// that the workspace has not is looked for beside each of them. Packages are resolved by their
// `exports` for import, so those without CommonJS work.

'use strict';

const { Object, Set, String, SyntaxError, process, world } = require('./globals.js');
const fs = require('fs');
const Module = require('module');
const path = require('path');
const { pathToFileURL } = require('url');

const esm = require('internal/modules/esm/resolve');

const CONDITIONS = ['node', 'import', 'module-sync', 'node-addons'];
const MISSING = new Set(['ERR_MODULE_NOT_FOUND', 'MODULE_NOT_FOUND']);

const resolveByNode = esm.defaultResolve;

// Libraries that complain when they are loaded.
const OLD = new Set(['domain', 'punycode', 'sys', 'wasi']);

// Cells are where this file would be.
let here;

function install() {
  here = path.join(process.cwd(), 'cell.js');
  const require = Module.createRequire(here);
  const cellModule = new Module(here, null);
  cellModule.filename = here;
  cellModule.paths = Module._nodeModulePaths(path.dirname(here));
  provide('require', require);
  provide('module', cellModule);
  provide('exports', cellModule.exports);
  provide('__filename', here);
  provide('__dirname', path.dirname(here));
  provide('$$import', importDynamically);
  importDynamically.names = importNames;
  importDynamically.meta = {
    url: pathToFileURL(here).href,
    filename: here,
    dirname: path.dirname(here),
    resolve: (specifier) => resolve(String(specifier)),
  };
  provideLibraries();
  noteGetters();
  hookImports();
  silence('USE_MAIN_CONTEXT_DEFAULT_LOADER'); // see `cells`
}

// Getters that are Node's or ours, which completion may call.
const getters = new Set();

function noteGetters() {
  for (const owner of [world, process]) {
    for (const { get } of Object.values(Object.getOwnPropertyDescriptors(owner))) {
      if (get) getters.add(get);
    }
  }
}

// Warnings of Node.js about what is our doing and not the program's.
function silence(word) {
  const { emitWarning } = process;
  process.emitWarning = (warning, ...more) => {
    if (!String(warning).includes(word)) emitWarning.call(process, warning, ...more);
  };
}

function provide(name, value) {
  Object.defineProperty(world, name, { value, writable: true, configurable: true });
}

// fs, path and their like without require, as in Node's own prompt.
function provideLibraries() {
  for (const name of Module.builtinModules) {
    if (!/^[a-z]\w*$/.test(name) || OLD.has(name) || name in world) continue;
    Object.defineProperty(world, name, {
      get: () => {
        const library = require(name);
        provide(name, library);
        return library;
      },
      set: (value) =>
        Object.defineProperty(world, name, {
          value,
          writable: true,
          enumerable: true,
          configurable: true,
        }),
      configurable: true,
    });
  }
}

// --- import -----------------------------------------------------------------------------

// What `import(…)` in a cell is.
async function importDynamically(specifier, options) {
  const url = resolve(String(specifier));
  return options === undefined ? import(url) : import(url, options);
}

// What `import … from` in a cell is: the values called `names`.
async function importNames(specifier, names, attributes) {
  const hasAttributes = Object.keys(attributes).length > 0;
  const options = hasAttributes ? { with: attributes, assert: attributes } : undefined;
  const found = await importDynamically(specifier, options);
  const values = [];
  for (const name of names) {
    if (name !== '*' && !(name in found) && !importDynamically.isLenient) {
      throw new SyntaxError(
        `The requested module '${specifier}' does not provide an export named '${name}'`,
      );
    }
    values.push(name === '*' ? found : found[name]);
  }
  return values;
}

function resolve(specifier) {
  if (/^\.{0,2}\//.test(specifier)) {
    return pathToFileURL(path.resolve(path.dirname(here), specifier)).href;
  }
  const how = { parentURL: pathToFileURL(here).href, conditions: CONDITIONS, importAttributes: {} };
  try {
    return widely(resolveByNode, specifier, how).url;
  } catch (error) {
    // Where from is known, and which file of it might be meant is a guess.
    if (MISSING.has(error.code)) error.message = `Cannot find package '${specifier}'`;
    throw error;
  }
}

// Files that see the attached packages as theirs.
function parents() {
  const roots = (process.env.NODE_PATH ?? '').split(path.delimiter);
  return roots
    .filter((root) => path.basename(root) === 'node_modules')
    .map((root) => path.join(path.dirname(root), 'cell.js'));
}

// Modules of the workspace import attached packages, too.
function hookImports() {
  if (Module.registerHooks) {
    Module.registerHooks({ resolve: (specifier, how, next) => widely(next, specifier, how) });
    return;
  }
  const { defaultResolve } = esm; // looked up at every import
  esm.defaultResolve = (specifier, how) => widely(defaultResolve, specifier, how);
}

function widely(resolveIt, specifier, how) {
  try {
    return resolveIt(specifier, how);
  } catch (error) {
    if (!MISSING.has(error.code) || /^[./]|:/.test(specifier)) throw error;
    for (const parent of parents()) {
      try {
        return resolveIt(specifier, { ...how, parentURL: pathToFileURL(parent).href });
      } catch {
        // the next one
      }
    }
    throw error;
  }
}

// --- packages ---------------------------------------------------------------------------

// Make a directory with packages, or one that has node_modules, part of the search.
function attach(directory) {
  const inner = path.join(directory, 'node_modules');
  const root = fs.existsSync(inner) ? inner : directory;
  prepend('NODE_PATH', root);
  prepend('PATH', path.join(root, '.bin'));
  Module._initPaths();
}

function prepend(variable, directory) {
  const known = (process.env[variable] ?? '').split(path.delimiter).filter(Boolean);
  if (known.includes(directory)) return;
  process.env[variable] = [directory, ...known].join(path.delimiter);
}

module.exports = { attach, getters, install };
