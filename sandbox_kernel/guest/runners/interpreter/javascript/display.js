// Rich output.
//
//   display(value, {mime, id, metadata})        display.update(id, value)
//   display.html(s) .markdown .svg .latex .json(value) .image(bytes or path) .clear(wait)
//   the same as tags: display.html`<b>${name}</b>`; and `$$`, as IJavascript has it
//
// A value says itself what it looks like by a method [Symbol.for("Jupyter.display")], which
// returns an object of MIME types (Deno's convention), or by one that its library is known for.

'use strict';

const {
  Array,
  Buffer,
  Error,
  JSON,
  Object,
  String,
  Symbol,
  URL,
  Uint8Array,
  process,
} = require('./globals.js');
const fs = require('fs');
const util = require('util');

const { emit } = require('./channel.js');
const { OURS, clean } = require('./errors.js');

const BUNDLE = Symbol.for('Jupyter.display');
const IS_TEXT = /^(text\/|image\/svg|application\/(javascript|xml))|\+xml$/;
const IS_JSON = /^application\/json$|\+json$/;
const PICTURES = [
  ['image/png', [0x89, 0x50, 0x4e, 0x47]],
  ['image/jpeg', [0xff, 0xd8, 0xff]],
  ['image/gif', [0x47, 0x49, 0x46, 0x38]],
  ['image/webp', [0x52, 0x49, 0x46, 0x46]],
  ['application/pdf', [0x25, 0x50, 0x44, 0x46]],
];

let count = 0;

// --- what a value looks like ------------------------------------------------------------

// An object of MIME types, or a promise of one.
function toBundle(value) {
  if (value !== null && (typeof value === 'object' || typeof value === 'function')) {
    if (typeof value[BUNDLE] === 'function') return value[BUNDLE]();
    const known = byLibrary(value);
    if (known) return { ...known, 'text/plain': plain(value) };
  }
  return { 'text/plain': plain(value) };
}

function plain(value) {
  const text = util.inspect(value, { showProxy: true });
  return text.includes(OURS) ? clean(text) : text;
}

function byLibrary(value) {
  if (util.types.isProxy(value)) return null;
  if (value instanceof Uint8Array) return picture(value);
  if (typeof value.toSpec === 'function') {
    return { 'application/vnd.vegalite.v5+json': value.toSpec() }; // vega-lite-api
  }
  if (typeof value.nodeType === 'number' && typeof value.outerHTML === 'string') {
    const isSvg = String(value.tagName).toLowerCase() === 'svg';
    return { [isSvg ? 'image/svg+xml' : 'text/html']: value.outerHTML };
  }
  if (typeof value.getContext === 'function' && typeof value.toBuffer === 'function') {
    return { 'image/png': value.toBuffer('image/png') }; // canvas
  }
  return null;
}

// Bytes are what they begin with.
function picture(bytes) {
  const found = PICTURES.find(([, head]) => head.every((byte, at) => bytes[at] === byte));
  return found ? { [found[0]]: bytes } : null;
}

function encode(mime, value) {
  if (IS_JSON.test(mime)) return JSON.stringify(value) ?? 'null';
  if (value instanceof Uint8Array) return value;
  return IS_TEXT.test(mime) ? String(value) : Buffer.from(String(value), 'base64');
}

// --- showing ----------------------------------------------------------------------------

// `how`: "result", "display", "update", or "" to tell what it looks like and no more.
function show(value, how, argument = '-', metadata = null) {
  if (value instanceof Handle) return undefined;
  return send(toBundle(value), how, argument, metadata);
}

function send(bundle, how, argument = '-', metadata = null) {
  if (util.types.isPromise(bundle)) {
    return bundle.then((found) => send(found, how, argument, metadata));
  }
  // All of it before any of it: what cannot be told must not leave half an output behind.
  const forms = Object.entries(bundle ?? {})
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([mime, value]) => [mime.replace(/\s/g, ''), encode(mime, value)]);
  if (!forms.length) return undefined;
  for (const [mime, payload] of forms) emit('data', mime, payload);
  if (metadata) emit('meta', '-', JSON.stringify(metadata));
  if (how) emit(how, argument);
  return undefined;
}

// What was shown under a name and can be shown anew.
class Handle {
  constructor(id) {
    this.id = id;
  }

  update(value, options = {}) {
    return after(showAs(value, options, 'update', this.id), this);
  }
}

function after(shown, value) {
  return util.types.isPromise(shown) ? shown.then(() => value) : value;
}

function showAs(value, { mime, raw, metadata = null }, how, id) {
  if (mime) return send({ [mime]: fromPath(mime, value) }, how, id, metadata);
  return raw ? send(value, how, id, metadata) : show(value, how, id, metadata);
}

function fromPath(mime, value) {
  return mime.startsWith('image/') && value instanceof URL ? fs.readFileSync(value) : value;
}

// `id` (or Jupyter's display_id): true for a name of our making.
function display(value, options = {}) {
  const given = options.id ?? options.displayId ?? options.display_id ?? null;
  if (given === null || given === false) return showAs(value, options, 'display', '-');
  const id = given === true ? `node-${process.pid}-${(count += 1)}` : String(given);
  const handle = new Handle(id.replace(/\s/g, '_'));
  return after(showAs(value, options, 'display', handle.id), handle);
}

function tagged(strings, values) {
  return Array.isArray(strings) && Array.isArray(strings.raw)
    ? String.raw({ raw: strings }, ...values)
    : null;
}

function as(mime) {
  return (value, ...rest) => {
    const text = tagged(value, rest);
    return text === null ? display(value, { ...rest[0], mime }) : display(text, { mime });
  };
}

function image(source, options = {}) {
  const isFile = typeof source === 'string' || source instanceof URL;
  const bytes = isFile
    ? fs.readFileSync(source)
    : new Uint8Array(source.buffer ?? source, source.byteOffset ?? 0, source.byteLength);
  const found = picture(bytes);
  if (found) return display(found, { ...options, raw: true });
  const text = Buffer.from(bytes).toString('latin1', 0, 1000);
  if (/<svg[\s>]/.test(text))
    return display(Buffer.from(bytes), { ...options, mime: 'image/svg+xml' });
  throw new Error('An image is the bytes, or the path, of a PNG, JPEG, GIF, WebP, PDF or SVG.');
}

Object.assign(display, {
  html: as('text/html'),
  markdown: as('text/markdown'),
  svg: as('image/svg+xml'),
  latex: as('text/latex'),
  text: as('text/plain'),
  json: as('application/json'),
  image,
  update: (id, value, options = {}) => showAs(value, options, 'update', String(id)),
  clear: (wait = false) => emit('clear', wait ? '1' : '0'),
});

// IJavascript's helpers, whose pictures are base64.
const helpers = {
  html: display.html,
  svg: display.svg,
  markdown: display.markdown,
  text: display.text,
  json: display.json,
  png: as('image/png'),
  jpeg: as('image/jpeg'),
  mime: (bundle) => display(bundle, { raw: true }),
  clear: display.clear,
};

module.exports = { display, helpers, show };
