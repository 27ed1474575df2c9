// Brings what stands on the page in line with fresh HTML from the server, touching only what differs: focus, scroll
// positions, open menus and half-typed fields stay as they are. Elements with the same id are the same element.
// An element marked `data-keep` belongs to a script: once it is there, it is left alone.

/** Put every top-level element of `html` in the place of the element with its id. Returns the ids that were found. */
export function swap(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html").body;
  const found = [];
  for (const element of [...fresh.children]) {
    const old = element.id && document.getElementById(element.id);
    if (old) {
      morph(old, element);
      found.push(element.id);
    }
  }
  return found;
}

function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || (old.id || "") !== (fresh.id || "")) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.hasAttribute("data-keep") && fresh.hasAttribute("data-keep")) return;
  attributes(old, fresh);
  children(old, fresh);
}

function attributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    // Whether something is folded out is its reader's choice.
    const theirs = name === "open" && old instanceof HTMLDetailsElement;
    if (!fresh.hasAttribute(name) && !theirs) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  // A field's attribute is only its default; what it shows is the property, and that is its user's while it has focus.
  if (old instanceof HTMLInputElement && old !== document.activeElement) old.value = fresh.getAttribute("value") ?? "";
}

function children(old, fresh) {
  const known = new Map();
  for (const child of old.children) if (child.id) known.set(child.id, child);
  let at = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const same = wanted.id ? known.get(wanted.id) : undefined;
    if (same) {
      if (same === at) at = at.nextSibling;
      else old.insertBefore(same, at);
      morph(same, wanted);
    } else if (at && !wanted.id && !at.id && at.nodeName === wanted.nodeName) {
      const next = at.nextSibling;
      morph(at, wanted);
      at = next;
    } else {
      old.insertBefore(wanted, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}
