// A text with changes, and the way from places in the new one to those in the old one. Pure.

'use strict';

const NOT_LINE_ENDS = /[^\n\r\u2028\u2029]/g;

// Text with changes, and the way from positions in the new one to those in the old one.
class Rewriting {
  constructor(code) {
    this.code = code;
    this.edits = [];
  }

  replace(start, end, text) {
    this.edits.push({ start, end, text, order: this.edits.length });
  }

  insert(position, text) {
    this.replace(position, position, text);
  }

  wrap(before, after) {
    this.edits.unshift({ start: 0, end: 0, text: before, order: -1 });
    this.insert(this.code.length, after);
  }

  // Keeps lines and columns of what follows.
  blank(start, end, first = '') {
    const text = this.code.slice(start, end).replace(NOT_LINE_ENDS, ' ');
    this.replace(start, end, first + text.slice(first.length));
  }

  build() {
    this.edits.sort((a, b) => a.start - b.start || a.end - b.end || a.order - b.order);
    this.pieces = []; // [where in the new text, where in the old, and of a change: its end, …]
    let text = '';
    let position = 0;
    for (const edit of this.edits) {
      this.pieces.push([text.length, position]);
      text += this.code.slice(position, edit.start);
      const isBlank = edit.end - edit.start === edit.text.length;
      this.pieces.push([text.length, edit.start, edit.end, isBlank]);
      text += edit.text;
      position = edit.end;
    }
    this.pieces.push([text.length, position]);
    this.text = text + this.code.slice(position);
    return this.text;
  }

  // Line and column (from 1) of the old text for those of the new one; null behind its end.
  find(line, column) {
    const position = toPosition(this.text, line, column);
    let found = [0, 0];
    for (const piece of this.pieces) {
      if (piece[0] <= position) found = piece;
    }
    const [start, source, end, isBlank] = found;
    if (end === undefined || isBlank) return toLine(this.code, source + position - start);
    return source === this.code.length ? null : toLine(this.code, source);
  }
}

function toPosition(text, line, column) {
  let start = 0;
  for (let at = 1; at < line; at += 1) {
    const end = text.indexOf('\n', start);
    if (end < 0) break;
    start = end + 1;
  }
  return start + column - 1;
}

function toLine(text, position) {
  const before = text.slice(0, position);
  const start = before.lastIndexOf('\n') + 1;
  return [before.split('\n').length, position - start + 1];
}

module.exports = { Rewriting, toLine };
