// Follows what happens, shows times in the reader's zone, plays, and takes keys. The page works without it.
"use strict";
const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const said = JSON.parse(document.body.dataset.words);
const language = document.documentElement.lang;
document.documentElement.classList.add("js");

// ---- times -------------------------------------------------------------------------------------------------
const ago = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
const styles = {
  time: { dateStyle: "medium", timeStyle: "short" },
  seconds: { dateStyle: "short", timeStyle: "medium" },
  clock: { timeStyle: "medium" },
  full: { dateStyle: "full", timeStyle: "long" },
};
const formats = Object.fromEntries(Object.entries(styles).map(([name, one]) => [name, new Intl.DateTimeFormat(language, one)]));
function age(then) {
  const seconds = (then - Date.now()) / 1000;
  for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (Math.abs(seconds) >= size) return ago.format(Math.trunc(seconds / size), unit);
  }
  return Math.abs(seconds) < 5 ? said.now : ago.format(Math.trunc(seconds), "second");
}
function showTimes(within, which = "time") {
  for (const time of all(which, within)) {
    const then = new Date(time.dateTime);
    const text = time.dataset.as === "age" ? age(then) : formats[time.dataset.as].format(then);
    if (time.textContent !== text) time.textContent = text;
    time.title = formats.full.format(then);
  }
}

// ---- the exchange of what has changed: what stays the same keeps its focus, its scroll and its sound -------------
function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) return old.replaceWith(fresh);
  if (old.nodeType !== Node.ELEMENT_NODE) { old.data = fresh.data; return; }
  if (old.dataset.keep !== undefined || old.contains(document.activeElement) && old.matches("input, select")) return;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !["open", "hidden"].includes(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (name !== "hidden" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const known = new Map([...old.children].filter((one) => one.id).map((one) => [one.id, one]));
  const needed = new Set([...fresh.children].map((one) => one.id).filter(Boolean));
  const stays = (one) => one.id && needed.has(one.id);
  const next = (one, name) => {
    while (one && !stays(one) && (one.id || one.nodeName !== name)) one = one.nextSibling;
    return one && !stays(one) ? one : null;
  };
  let place = old.firstChild;
  const drop = () => { const gone = place; place = place.nextSibling; gone.remove(); };
  for (const wanted of [...fresh.childNodes]) {
    const same = wanted.id ? known.get(wanted.id) : next(place, wanted.nodeName);
    if (!same) { old.insertBefore(wanted, place); continue; }
    while (place && place !== same && !stays(place)) drop(); // a node that were moved would lose its focus
    if (same === place) place = place.nextSibling;
    else old.insertBefore(same, place);
    morph(same, wanted);
  }
  while (place) drop();
}
let busy = false, again = false, events, heardAt = 0;
function retries() {
  let delay = 0, timer;
  return {
    later(call) {
      delay = Math.min(delay * 2 || 1000, 30000);
      clearTimeout(timer);
      timer = setTimeout(call, delay * (0.75 + Math.random() / 2));
    },
    over() { delay = 0; clearTimeout(timer); },
  };
}
// Of each its own: what one of them waits for must not keep the other from coming back.
const ofPage = retries(), ofEvents = retries();
function tell(text) {
  const place = find("#connection");
  if (place.textContent === text) return;
  place.replaceChildren(...(text ? [Object.assign(document.createElement("p"), { textContent: text })] : []));
}
function exchange(html) {
  const fresh = new DOMParser().parseFromString(`<div id="page">${html}</div>`, "text/html");
  const focus = document.activeElement, notice = find("#notice");
  showTimes(fresh);
  if (notice) find("main", fresh).prepend(notice.cloneNode(true));
  morph(find("#page"), find("#page", fresh));
  if (document.activeElement !== focus) (focus.isConnected ? focus : find("main")).focus({ preventScroll: true });
  ready();
}
async function refresh() {
  again = busy;
  if (busy) return;
  busy = true;
  const began = performance.now();
  try {
    const address = new URL(location.href);
    address.searchParams.set("part", "1");
    const answer = await fetch(address, { signal: AbortSignal.timeout(35000) });
    const isIll = answer.status >= 500 || answer.status === 429;
    if (answer.status === 401) location.reload();
    else if (!isIll) exchange(await answer.text()); // or why it can't be seen any more
    tell(isIll && !find(".problem") ? said.unavailable : "");
    if (isIll) ofPage.later(refresh);
    else ofPage.over();
  } catch {
    tell(said.lost);
    ofPage.later(refresh);
  }
  const pause = 5 * (performance.now() - began); // a large page, or a busy server, is asked less often
  setTimeout(() => { busy = false; if (again) refresh(); }, pause);
}
function follow() {
  if (document.hidden) return;
  events?.close();
  const stream = events = new EventSource(document.body.dataset.live);
  heardAt = performance.now();
  for (const kind of ["open", "here", "changed", "health", "signed-out"]) {
    stream.addEventListener(kind, () => { heardAt = performance.now(); if (kind !== "here") refresh(); });
  }
  for (const kind of ["here", "changed"]) stream.addEventListener(kind, ofEvents.over); // it lasts
  stream.onerror = () => {
    stream.close();
    if (stream !== events) return;
    ofEvents.later(follow);
    refresh(); // finds out, and says, whether the page or only the stream of events is unavailable
  };
}
function listen() { // a cable that was cut ends no stream
  const silent = (performance.now() - heardAt) / 1000;
  if (document.hidden || events.readyState === EventSource.CLOSED || silent < document.body.dataset.silence) return;
  tell(said.lost);
  follow();
  refresh();
}
if (document.body.dataset.live) {
  follow();
  setInterval(listen, 1000);
  document.addEventListener("visibilitychange", () => document.hidden ? events?.close() : follow());
  addEventListener("pagehide", () => events?.close());
  addEventListener("pageshow", (event) => event.persisted && follow());
}
setInterval(() => showTimes(document, "time[data-as=age]"), 10000);

// ---- the player and the transcript that follows it --------------------------------------------------------------
const sound = () => find("#sound");
let lines = [], scrolled = 0;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const play = () => sound().play().catch(() => {}); // `onerror` shows why not
function jump(seconds) {
  if (!sound()) return;
  sound().currentTime = seconds;
  play();
}
function following() {
  const at = sound().currentTime, length = sound().duration || Number(find("#bar").dataset.length);
  find("#played").setAttribute("width", `${length ? (100 * at) / length : 0}%`);
  const now = lines.findLast((line) => Number(line.dataset.start) <= at && at < Number(line.dataset.end) + 2);
  const before = find(".lines [aria-current]");
  if (now === before) return;
  before?.removeAttribute("aria-current");
  now?.setAttribute("aria-current", "true");
  if (now && !sound().paused && Date.now() - scrolled > 4000) {
    const box = now.getBoundingClientRect(), top = find("#player").getBoundingClientRect().bottom;
    if (box.top < top || box.bottom > innerHeight) scrollBy({ top: box.top - top - innerHeight / 5, behavior: calm.matches ? "auto" : "smooth" });
  }
}
async function draw(bar) {
  const answer = await fetch(bar.dataset.loudness);
  if (!answer.ok) return;
  const values = await answer.json(), step = 1000 / values.length;
  const edge = (sign) => values.map((value, place) => `${(place + 0.5) * step} ${50 + sign * 46 * value}`);
  if (values.length) find("#loudness").setAttribute("d", `M0 50L${edge(-1).join("L")}L1000 50L${edge(1).reverse().join("L")}Z`);
}
async function ready() {
  const it = sound(), place = find("#words");
  if (it && !it.onplay) {
    it.onplay = it.ontimeupdate = it.onseeked = following;
    it.onerror = () => { find("#unplayable").textContent = said.unplayable; };
    find(".speed").hidden = false;
    find("#speed").onchange = (event) => { it.playbackRate = Number(event.target.value); };
    find("#bar").onclick = (event) => jump((event.offsetX / find("#bar").clientWidth) * (it.duration || Number(find("#bar").dataset.length)));
    draw(find("#bar"));
  }
  if (place && !place.dataset.asked) {
    place.dataset.asked = "yes";
    const answer = await fetch(`${place.dataset.words}?part=lines`);
    if (answer.ok) place.innerHTML = await answer.text();
    lines = all("li[data-start]", place);
  }
}
addEventListener("wheel", () => { scrolled = Date.now(); }, { passive: true });
addEventListener("touchmove", () => { scrolled = Date.now(); }, { passive: true });
addEventListener("click", (event) => {
  const line = event.target.closest?.(".lines li, .jump");
  if (!line || !sound() || event.ctrlKey || event.metaKey || getSelection().toString()) return;
  event.preventDefault();
  jump(Number((line.matches(".jump") ? line : find(".jump", line)).dataset.at));
});

// ---- keys, and the form that finds --------------------------------------------------------------------------------
function step(by) {
  const stops = all("a.row, .lines .jump"), place = stops.indexOf(document.activeElement);
  stops[place < 0 ? (by > 0 ? 0 : stops.length - 1) : Math.min(Math.max(place + by, 0), stops.length - 1)]?.focus();
}
function speed(by) {
  const list = find("#speed");
  if (!list) return;
  list.selectedIndex = Math.min(Math.max(list.selectedIndex + by, 0), list.length - 1);
  list.onchange({ target: list });
}
const keys = {
  j: () => step(1), k: () => step(-1), s: () => speed(-1), f: () => speed(1),
  "/": () => find("#text") ? (find("#text").focus(), find("#text").select()) : location.assign("/find"),
  " ": () => sound().paused ? play() : sound().pause(),
  ArrowLeft: () => { sound().currentTime -= 5; }, ArrowRight: () => { sound().currentTime += 5; },
};
const wanted = find("#use-keys");
if (wanted) {
  find("#keys").hidden = false;
  wanted.checked = localStorage.getItem("keys") !== "off";
  wanted.onchange = () => localStorage.setItem("keys", wanted.checked ? "on" : "off");
}
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=checkbox]), select, textarea, audio");
  if (event.key === "Escape" && typing) event.target.blur();
  if (!wanted?.checked || typing || event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
  if ([" ", "ArrowLeft", "ArrowRight"].includes(event.key) && (!sound() || event.target.closest("button, summary, label, input"))) return;
  event.preventDefault();
  keys[event.key]();
});
const form = find("#find");
const zone = () => {
  const day = find("#day").value;
  find("#zone").value = -(day ? new Date(`${day}T12:00`) : new Date()).getTimezoneOffset();
};
if (form) form.onsubmit = zone;

const notice = find("#notice");
if (notice) {
  const address = new URL(location.href);
  address.searchParams.delete("did");
  history.replaceState(null, "", address);
  notice.focus();
}
showTimes(document);
ready();
