"""The script that lets a guest's html into its frame. Text only; `iframe` says why there is one.

A Content-Security-Policy has no word against WebRTC (a STUN server is an address, and UDP
goes there) and none against `<link rel=preconnect>` (a host name, looked up at once). So:

Rule 1: only scripts with a nonce run, and only this script knows it: a fresh realm in a
nested frame, where `RTCPeerConnection` exists again, never gets to run any.
Rule 2: the guest's scripts are run by name of the nonce in a closed shadow root, where
the guest cannot read or clone the element that has it.
Rule 3: what makes links, frames and documents is taken away or wrapped before the
guest's first line. Trusted Types bring every string that becomes html past `tame`.

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
    if (/rtc|webtransport|websocketstream|xsltprocessor|fencedframe|HTMLLink|HTMLI?Frame/i.test(name))
      delete window[name];

  const names = "link|iframe|frame|frameset|object|embed|applet|portal|fencedframe|meta|base";
  const isDenied = RegExp.prototype.test.bind(RegExp(`^(?:.*:)?(?:${names})$`, "is"));
  const tag = RegExp(`<(?=(?:[^\\s<>/]*:)?(?:${names})(?![\\w.-])|!ENTITY)`, "gi");
  const replace = Function.call.bind(String.prototype.replace);
  const tame = (text) => replace(`${text}`, tag, "<x-");
  let parse = (text) => text;
  if (window.trustedTypes) {
    const own = trustedTypes.createPolicy("own", { createHTML: (text) => text });
    parse = (text) => own.createHTML(text);
    trustedTypes.createPolicy("default", { createHTML: tame, createScript: (text) => text });
  }

  const wrap = (prototype, name, at, fallback) => {
    const original = prototype[name], call = Reflect.apply;
    prototype[name] = function (...items) {
      items[at] = `${items[at]}`;
      if (isDenied(items[at])) items[at] = fallback;
      return call(original, this, items);
    };
  };
  wrap(Document.prototype, "createElement", 0, "x-denied");
  wrap(Document.prototype, "createElementNS", 1, "x-denied");
  wrap(DOMImplementation.prototype, "createDocument", 1, "x-denied");
  const define = CustomElementRegistry.prototype.define;
  CustomElementRegistry.prototype.define = function (name, constructor) {
    return Reflect.apply(define, this, [name, constructor]);
  };
  for (const [holder, name] of [
    [Document.prototype, "execCommand"], [Document, "parseHTML"], [Element.prototype, "setHTML"],
    [ShadowRoot.prototype, "setHTML"], [Document.prototype, "open"],
  ]) delete holder[name];
  Document.prototype.write = Document.prototype.writeln = function (...parts) {
    document.body.insertAdjacentHTML("beforeend", parts.join(""));
  };

  const holder = document.createElement("div");
  holder.hidden = true;
  document.documentElement.append(holder);
  const shadow = holder.attachShadow({ mode: "closed" });
  const setNonce = Object.getOwnPropertyDescriptor(HTMLElement.prototype, "nonce").set;
  const create = document.createElement.bind(document), append = shadow.append.bind(shadow);
  const done = new WeakSet();
  let current = null;
  Object.defineProperty(document, "currentScript", { get: () => current });
  const run = (script) => {
    if (done.has(script) || script.getAttribute("src") !== null) return;
    done.add(script);
    const kind = (script.getAttribute("type") || "").trim().toLowerCase();
    if (!/^(?:module|(?:text|application)\/(?:javascript|ecmascript|x-javascript))?$/.test(kind)) return;
    const copy = create("script");
    if (kind === "module") copy.type = kind;
    copy.textContent = script.textContent;
    setNonce.call(copy, nonce);
    current = script;
    try { append(copy); } finally { current = null; copy.remove(); }
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
  for (const name of ["class", "style", "onload"])
    if (parsed.body.hasAttribute(name)) document.body.setAttribute(name, parsed.body.getAttribute(name));
  const elements = all(parsed.documentElement);
  document.head.append(...parsed.head.childNodes);
  document.body.append(...parsed.body.childNodes);
  bind(document.body);
  elements.forEach(bind);
  new MutationObserver((records) => {
    for (const record of records)
      for (const node of record.addedNodes)
        for (const element of all(node)) {
          bind(element);
          if (element.localName === "script") run(element);
        }
  }).observe(document.documentElement, { childList: true, subtree: true });
  for (const element of elements) if (element.localName === "script") run(element);
  document.dispatchEvent(new Event("DOMContentLoaded", { bubbles: true }));
})();
"""
