"""The script that lets a guest's html into its frame. Text only; `iframe` says why there is one.

A Content-Security-Policy has no word against WebRTC (a STUN server is an address, and UDP
goes there) and none against `<link rel=preconnect>` (a host name, looked up at once). So:

Rule 1: only scripts with a nonce run, and only this script knows it: a fresh realm in a
nested frame, where `RTCPeerConnection` exists again, never gets to run any.
Rule 2: the guest's scripts are run by name of the nonce in a closed shadow root, where
the guest cannot read or clone the element that has it.
Rule 3: what makes links, frames and documents is taken away or wrapped before the
guest's first line. Trusted Types bring every string that becomes html past `tame`.
Rule 4: once the guest has run, every prototype is its own. What this script needs after that
it took before, and calls by `apply`; no method is looked up on an element of ours.

The guest's html comes as base64, so nothing of it is parsed before this has run.
"""

from __future__ import annotations

LOADER = r"""
(() => {
  "use strict";
  const here = document.currentScript, nonce = here.nonce;
  const html = new TextDecoder().decode(
    Uint8Array.from(atob(here.dataset.html), (character) => character.charCodeAt(0)));
  here.remove();

  for (const name of Object.getOwnPropertyNames(window))
    if (/rtc|webtransport|websocketstream|xsltprocessor|fencedframe|HTML(Link|I?Frame)/i.test(name))
      delete window[name];

  const apply = Reflect.apply, define = Object.defineProperty;
  const setter = (prototype, name) => Object.getOwnPropertyDescriptor(prototype, name).set;
  const names = "link|iframe|frame|frameset|object|embed|applet|portal|fencedframe|meta|base";
  const { test, exec } = RegExp.prototype, { replace } = String.prototype;
  // With these of its own, an expression takes none of the prototype's.
  const fixed = (expression) => Object.defineProperties(expression, {
    exec: { value: exec },
    flags: { value: expression.flags },
    [Symbol.replace]: { value: RegExp.prototype[Symbol.replace] },
  });
  const denied = fixed(RegExp(`^(?:.*:)?(?:${names})$`, "is"));
  const tag = fixed(RegExp(`<(?=(?:[^\\s<>/]*:)?(?:${names})(?![\\w.-])|!ENTITY)`, "gi"));
  const isDenied = (name) => apply(test, denied, [name]);
  const tame = (text) => apply(replace, `${text}`, [tag, "<x-"]);
  let parse = (text) => text;
  if (window.trustedTypes) {
    const own = trustedTypes.createPolicy("own", { createHTML: (text) => text });
    parse = (text) => own.createHTML(text);
    trustedTypes.createPolicy("default", { createHTML: tame, createScript: (text) => text });
  }

  const wrap = (prototype, name, at) => {
    const original = prototype[name];
    prototype[name] = function (...items) {
      items[at] = `${items[at]}`;
      if (isDenied(items[at])) items[at] = "x-denied";
      return apply(original, this, items);
    };
  };
  wrap(Document.prototype, "createElement", 0);
  wrap(Document.prototype, "createElementNS", 1);
  wrap(DOMImplementation.prototype, "createDocument", 1);
  const register = CustomElementRegistry.prototype.define;
  CustomElementRegistry.prototype.define = function (name, constructor) {
    return apply(register, this, [name, constructor]);
  };
  for (const [owner, name] of [
    [Document.prototype, "execCommand"], [Document, "parseHTML"], [Element.prototype, "setHTML"],
    [ShadowRoot.prototype, "setHTML"], [Document.prototype, "open"],
  ]) delete owner[name];
  Document.prototype.write = Document.prototype.writeln = function (...parts) {
    document.body.insertAdjacentHTML("beforeend", parts.join(""));
  };

  const holder = document.createElement("div");
  holder.hidden = true;
  document.documentElement.append(holder);
  const shadow = holder.attachShadow({ mode: "closed" });
  const setNonce = setter(HTMLElement.prototype, "nonce");
  const setText = setter(Node.prototype, "textContent");
  const setType = setter(HTMLScriptElement.prototype, "type");
  for (const owner of [HTMLElement, SVGElement, window.MathMLElement])
    if (owner) delete owner.prototype.nonce;
  const { createElement } = document, { append } = shadow, { remove } = Element.prototype;
  const done = new WeakSet();
  let current = null;
  define(document, "currentScript", { get: () => current });
  const run = (script) => {
    if (done.has(script) || script.getAttribute("src") !== null) return;
    done.add(script);
    const kind = (script.getAttribute("type") || "").trim().toLowerCase();
    if (!/^(?:module|(?:text|application)\/(?:x-)?(?:java|ecma)script)?$/.test(kind)) return;
    const copy = apply(createElement, document, ["script"]);
    if (kind === "module") apply(setType, copy, [kind]);
    apply(setText, copy, [script.textContent]);
    apply(setNonce, copy, [nonce]);
    current = script;
    try { apply(append, shadow, [copy]); } finally { current = null; apply(remove, copy, []); }
  };
  const bind = (element) => {
    for (const { name, value } of [...element.attributes])
      if (/^on\w+$/i.test(name)) {
        element.removeAttribute(name);
        const target = element.localName === "body" && name === "onload" ? window : element;
        try { target[name.toLowerCase()] = Function("event", value); } catch (error) { }
      }
  };
  const all = (node) =>
    node.nodeType === 1 ? [node, ...node.querySelectorAll("*")] : [];
  const strip = (root) => {
    for (const element of root.querySelectorAll("*")) {
      if (isDenied(element.localName)) element.remove();
      else if (element.localName === "template" && element.content) strip(element.content);
    }
  };

  const parsed = new DOMParser().parseFromString(parse(html), "text/html");
  strip(parsed);
  const elements = all(parsed.documentElement);
  elements.forEach(bind);
  for (const name of ["class", "style"])
    if (parsed.body.hasAttribute(name))
      document.body.setAttribute(name, parsed.body.getAttribute(name));
  document.head.append(...parsed.head.childNodes);
  document.body.append(...parsed.body.childNodes);
  new MutationObserver((records) => {
    for (const record of records)
      for (const node of record.addedNodes)
        for (const element of all(node)) {
          bind(element);
          if (element.localName === "script") run(element);
        }
  }).observe(document.documentElement, { childList: true, subtree: true });
  for (const element of elements) if (element.localName === "script") run(element);
})();
"""
