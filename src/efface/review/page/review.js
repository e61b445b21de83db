// The page: one case at a time, votes by keyboard. Text goes into the page as text, never as markup.
import { List, badge, classOf } from "./list.js";
import { Viewer } from "./viewer.js";

const VERDICTS = ["Success", "Failure I", "Failure II"];
const VIEWS = {
  frontal: "front", three_quarter_left: "¾ left", three_quarter_right: "¾ right", profile_left: "left", profile_right: "right",
};
const FLICKER_MS = 600;
const $ = (id) => document.getElementById(id);
const state = { cases: [], shown: [], current: null, details: null, saving: false, view: "frontal", flicker: 0, viewer: null };

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Start `efface review` again and open the address it prints.");
  }
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(content.error ?? `The server answered ${answer.status}.`);
  return content;
}

const query = () => `?reviewer=${encodeURIComponent(state.reviewer)}`;
const caseUrl = (one, ...rest) => [rest.shift(), encodeURIComponent(one.id), ...rest].join("/");

function complain(error) {
  $("alert").textContent = error.message;
  $("alert").hidden = false;
}

function text(parent, tag, content, className = "") {
  const element = document.createElement(tag);
  element.textContent = content;
  element.className = className;
  parent.append(element);
  return element;
}

// ---- the study and its list

async function loadStudy() {
  const study = await ask(`api/study${query()}`);
  state.blind = study.blind;
  state.reviewer ||= study.reviewer;
  $("known-reviewers").replaceChildren(...study.reviewers.map((name) => new Option(name)));
  if (!state.reviewer) {
    await askName();
    return loadStudy();
  }
  sessionStorage.setItem("reviewer", state.reviewer);
  $("who").textContent = state.reviewer;
  $("study").textContent = $("study").title = study.name;
  document.title = `efface review: ${study.name}`;
  $("order").textContent = study.blind ? "blind: in random order, verdicts hidden until you vote" : "worst first";
  state.cases = study.cases.map(([id, scan, method, automatic, score, verdict, stale]) => (
    { id, scan, method, automatic, score, verdict, stale }
  ));
  if (study.broken) {
    complain(new Error(`${study.broken} line(s) of review/votes.jsonl cannot be read (cut short by a crash?) and are left out.`));
  }
  applyFilter();
  progress();
  return study;
}

function applyFilter() {
  const words = $("search").value.trim().toLowerCase();
  const keep = {
    all: () => true,
    open: (one) => !one.verdict,
    failures: (one) => one.automatic && one.automatic !== "Success",
    differ: (one) => one.automatic && one.verdict && one.automatic !== one.verdict,
  }[$("filter").value];
  state.shown = state.cases.filter((one) => keep(one) && `${one.scan} ${one.method}`.toLowerCase().includes(words));
  state.list.show(state.shown, state.current);
}

function progress() {
  const done = state.cases.filter((one) => one.verdict).length;
  $("progress").max = state.cases.length;
  $("progress").value = done;
  $("count").textContent = `${done.toLocaleString("en")} of ${state.cases.length.toLocaleString("en")} voted`;
}

// ---- one case

async function open(one) {
  if (!one) return;
  state.current = one;
  state.details = null;
  history.replaceState(null, "", `#${encodeURIComponent(one.id)}`);
  state.list.select(one);
  $("list-panel").classList.remove("open");
  $("case").textContent = one.scan;
  $("case-about").textContent = one.method;
  $("note").value = "";
  $("saved").textContent = "";
  $("automatic").replaceChildren();
  $("others").replaceChildren();
  mark(one.verdict);
  try {
    const details = await ask(`${caseUrl(one, "api/case")}${query()}`);
    if (state.current !== one) return;
    showDetails(details);
    $("note").value = details.vote?.note ?? "";
    showFaces(one, details);
    await showImages(one, details);
  } catch (error) {
    if (state.current === one) complain(error);
  }
}

function showDetails(details) {
  state.details = details;
  const parameters = Object.entries(details.parameters).map(([name, value]) => `${name} ${JSON.stringify(value)}`);
  $("case-about").textContent = [state.current.method, details.implementation, ...parameters].filter(Boolean).join(" · ");
  showAutomatic(details);
  $("others-title").hidden = $("others").hidden = details.open && !details.others.length;
  $("others").replaceChildren();
  if (!details.open) text($("others"), "li", "hidden until you vote", "quiet");
  for (const other of details.others) {
    const item = text($("others"), "li", `${other.reviewer} `);
    item.append(badge(other.verdict));
    if (other.note) text(item, "span", ` ${other.note}`, "quiet");
  }
}

function showAutomatic(details) {
  const box = $("automatic");
  box.replaceChildren();
  if (!details.open) return void text(box, "p", "hidden until you vote", "quiet");
  if (!details.automatic) text(box, "p", "there is no automatic verdict", "quiet");
  else {
    const line = text(box, "p", "");
    line.append(badge(details.automatic, "auto"));
    if (details.score !== null) text(line, "span", ` score ${details.score.toFixed(2)}`, "quiet");
    if (details.reason) text(box, "p", details.reason);
  }
  const evidence = document.createElement("ul");
  for (const { text: words, failed, at_mm: at } of details.evidence) {
    const item = text(evidence, "li", words, failed ? "failed" : "");
    if (!at) continue;
    const button = text(item, "button", "show", "go");
    button.type = "button";
    button.addEventListener("click", () => state.viewer?.goTo(at));
  }
  box.append(evidence);
  for (const warning of details.warnings) text(box, "p", warning, "warning");
}

async function showImages(one, details) {
  const viewer = state.viewer;
  if (!viewer) return;
  stopFlicker();
  const urls = urlsOf(one, details);
  viewer.keep(Object.values(urls));
  $("loading").textContent = "loading";
  $("loading").hidden = false;
  document.body.dataset.loaded = "";
  try {
    if (!(await viewer.load(urls))) return;
    const failed = details.evidence.find((line) => line.failed && line.at_mm);
    if (failed) viewer.goTo(failed.at_mm);
    else viewer.side.createOnLocationChange();
    $("before").disabled = $("flicker").disabled = !viewer.has("before");
    $("before").title = details.no_original || "Space switches";
    for (const kind of Object.keys(viewer.on)) $(kind).disabled = !Object.keys(urls).some((one) => one.startsWith(kind));
    show("after");
    windowToSliders();
    document.body.dataset.loaded = one.id;
    prefetch(urls);
  } finally {
    if (state.current === one) $("loading").hidden = true;
  }
}

const urlsOf = (one, details) => Object.fromEntries(
  // The file's own suffix tells the viewer its format.
  Object.entries(details.volumes).map(([kind, name]) => [kind, `${caseUrl(one, "volume", kind)}/${kind}${/\.(nii|mgz|mgh)(\.gz)?$/.exec(name)[0]}`])
);

async function prefetch(current) {
  const next = state.shown[state.shown.indexOf(state.current) + 1];
  if (!next) return;
  const details = await ask(`${caseUrl(next, "api/case")}${query()}`).catch(() => null);
  if (!details || document.body.dataset.loaded !== state.current.id) return;
  const urls = urlsOf(next, details);
  for (const kind of ["after", "before", "edit"]) if (urls[kind]) state.viewer.bytes(urls[kind]).catch(() => {});
  state.viewer.keep([...Object.values(current), ...Object.values(urls)]);
}

// ---- before, after, faces, window

function show(when) {
  if (when === "before" && state.details?.no_original) return;
  state.viewer?.show(when);
  state.when = when;
  for (const one of ["before", "after"]) {
    $(one).setAttribute("aria-pressed", String(one === when));
    $(`face-${one}`).classList.toggle("off", one !== when);
  }
  $("tag").hidden = !state.viewer;
  $("tag").textContent = when === "before" ? "BEFORE" : "AFTER";
  $("tag").className = when;
}

function stopFlicker() {
  clearInterval(state.flicker);
  state.flicker = 0;
  $("flicker").setAttribute("aria-pressed", "false");
}

function flicker() {
  if (state.flicker || state.details?.no_original) return stopFlicker();
  state.flicker = setInterval(() => show(state.when === "before" ? "after" : "before"), FLICKER_MS);
  $("flicker").setAttribute("aria-pressed", "true");
}

function showFaces(one, details) {
  $("face-note").textContent = "drawing the face";
  for (const when of ["after", "before"]) {
    const picture = $(`face-${when}`);
    picture.hidden = true;
    if (when === "before" && details.no_original) continue;
    picture.onload = () => {
      picture.hidden = state.viewer?.turning ?? false;
      $("face-note").textContent = "";
    };
    picture.onerror = () => { $("face-note").textContent = "the face cannot be drawn"; };
    picture.src = caseUrl(one, "face", when, state.view);
  }
}

function chooseView(view) {
  if (state.viewer?.turning) turn();
  state.view = view;
  markViews();
  if (state.details) showFaces(state.current, state.details);
}

function markViews() {
  for (const button of $("views").children) {
    const pressed = button.dataset.view === (state.viewer?.turning ? "turn" : state.view);
    button.setAttribute("aria-pressed", String(pressed));
  }
}

function turn() {
  if (!state.viewer) return;
  const turning = state.viewer.turn();
  $("face").classList.toggle("turn", turning);
  $("face-note").hidden = turning;
  for (const when of ["before", "after"]) $(`face-${when}`).hidden = turning || !$(`face-${when}`).complete;
  markViews();
}

function windowToSliders() {
  const shown = state.viewer?.getWindow();
  if (!shown) return;
  const { low, high } = state.viewer.range;
  for (const [id, value] of [["dark", shown.low], ["bright", shown.high]]) {
    $(id).value = Math.round((1000 * (value - low)) / (high - low || 1));
  }
}

function slidersToWindow() {
  if (!state.viewer?.range) return;
  const { low, high } = state.viewer.range;
  const [dark, bright] = ["dark", "bright"].map((id) => low + ($(id).value / 1000) * (high - low));
  state.viewer.setWindow({ low: dark, high: bright });
}

function resetWindow() {
  if (!state.viewer?.first) return;
  state.viewer.setWindow(state.viewer.first);
  windowToSliders();
}

async function toggle(kind) {
  if (!state.viewer || $(kind).disabled) return; // this case has no such image
  $(kind).setAttribute("aria-pressed", String(!state.viewer.on[kind]));
  await state.viewer.toggle(kind).catch(complain);
}

// ---- votes

async function vote(verdict) {
  const one = state.current;
  if (!one || state.saving || !state.details) return;
  state.saving = true;
  $("saved").textContent = "saving";
  const said = { case: one.id, reviewer: state.reviewer, verdict, note: $("note").value };
  try {
    const details = await ask("api/vote", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(said),
    });
    Object.assign(one, { verdict: verdict || null, stale: false });
    if (details.open) Object.assign(one, { automatic: details.automatic, score: details.score });
    else Object.assign(one, { automatic: null, score: null });
    $("alert").hidden = true;
    mark(one.verdict);
    showDetails(details);
    progress();
    state.list.draw();
    const next = verdict && $("advance").checked ? nextOpen() : null;
    if (next) await openAfterVote(next, one);
    else $("saved").textContent = verdict ? allDone() : "vote taken back";
  } catch (error) {
    $("saved").textContent = "not saved";
    complain(new Error(`Your vote is not saved. ${error.message}`));
  } finally {
    state.saving = false;
  }
}

async function openAfterVote(next, voted) {
  const opened = open(next);
  const automatic = voted.automatic ? `; automatic: ${voted.automatic}` : "";
  $("saved").textContent = `saved: ${voted.scan}, ${voted.method}: ${voted.verdict}${automatic}`;
  state.saving = false; // the images may take their time: the next vote need not wait for them
  await opened;
}

const allDone = () => (state.cases.every((one) => one.verdict) ? "saved; all cases are voted" : "saved");

function nextOpen() {
  const at = state.shown.indexOf(state.current);
  const after = [...state.shown.slice(at + 1), ...state.shown.slice(0, Math.max(at, 0))];
  return after.find((one) => !one.verdict);
}

function mark(verdict) {
  for (const button of $("verdicts").children) {
    const chosen = button.dataset.verdict === verdict;
    button.className = chosen ? `chosen ${classOf(verdict)}` : "";
    button.setAttribute("aria-pressed", String(chosen));
  }
}

function step(by) {
  const at = state.shown.indexOf(state.current);
  open(state.shown[Math.min(Math.max(at + by, 0), state.shown.length - 1)]);
}

// ---- dialogs

async function showAgreement() {
  const body = $("agreement-body");
  const found = await ask("api/agreement").catch(complain);
  if (!found) return;
  body.replaceChildren();
  if (!found.pairs.length) text(body, "p", "Nobody has voted yet, or one reviewer has and there are no automatic verdicts.");
  else {
    const table = document.createElement("table");
    const head = table.insertRow();
    for (const word of ["", "blind cases", "same", "Cohen's kappa", "95%", "anchored cases", "same"]) text(head, "th", word, word ? "number" : "");
    for (const pair of found.pairs) {
      const row = table.insertRow();
      text(row, "td", `${pair.a}, ${pair.b}`);
      const interval = pair.low === null ? "n/a" : `${number(pair.low)} to ${number(pair.high)}`;
      const cells = [pair.cases, percent(pair.same), number(pair.kappa), interval, pair.anchored, percent(pair.anchored_same)];
      for (const cell of cells) text(row, "td", cell, "number");
    }
    body.append(table);
    text(body, "p", "Kappa is of blind votes only. Anchored: voted after the automatic verdict was shown.");
    if (found.raters > 1) text(body, "p", `Fleiss' kappa of ${found.raters} reviewers on the ${found.cases} cases that all of them judged blind: ${number(found.fleiss)}`);
  }
  $("agreement").showModal();
}

const number = (value) => (value === null ? "n/a" : value.toFixed(2));
const percent = (value) => (value === null ? "n/a" : `${(100 * value).toFixed(0)}%`);

function askName() {
  $("reviewer").value = state.reviewer ?? "";
  $("name").showModal();
  return new Promise((done) => {
    $("name-form").onsubmit = (event) => {
      event.preventDefault();
      const name = $("reviewer").value.trim();
      if (!name) return;
      state.reviewer = name;
      $("name").close();
      done();
    };
    $("name").oncancel = (event) => !state.reviewer && event.preventDefault();
  });
}

async function exportVotes() {
  try {
    const done = await ask("api/export", { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
    $("saved").textContent = done.said;
  } catch (error) {
    complain(error);
  }
}

// ---- keys

const KEYS = {
  1: () => vote(VERDICTS[0]), 2: () => vote(VERDICTS[1]), 3: () => vote(VERDICTS[2]), 0: () => vote(""),
  n: () => $("note").focus(), u: () => open(nextOpen()), ArrowRight: () => step(1), ArrowLeft: () => step(-1),
  ArrowUp: () => state.viewer?.scroll(1), ArrowDown: () => state.viewer?.scroll(-1),
  PageUp: () => state.viewer?.scroll(10), PageDown: () => state.viewer?.scroll(-10),
  " ": () => show(state.when === "before" ? "after" : "before"), f: flicker,
  e: () => toggle("edit"), s: () => toggle("labels"), b: () => toggle("brain"), w: resetWindow, r: turn,
  v: () => chooseView(Object.keys(VIEWS)[(Object.keys(VIEWS).indexOf(state.view) + 1) % Object.keys(VIEWS).length]),
  l: () => $("list-panel").classList.toggle("open"), a: showAgreement, "?": () => $("help").showModal(),
};
const MAY_REPEAT = ["ArrowUp", "ArrowDown", "PageUp", "PageDown"];

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("textarea, input:not([type=range]):not([type=checkbox]), select")) return onKeyInField(event);
  const action = KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  event.stopPropagation(); // the viewer has keys of its own
  if (!event.repeat || MAY_REPEAT.includes(event.key)) action();
}

function onKeyInField(event) {
  event.stopPropagation();
  if (event.key === "Escape") event.target.blur();
  if (event.target !== $("note") || event.key !== "Enter" || event.shiftKey) return;
  event.preventDefault();
  $("note").blur();
  const verdict = state.current?.verdict;
  if (verdict) vote(verdict);
}

function listen() {
  window.addEventListener("keydown", onKey, true);
  const clicks = {
    previous: () => step(-1), next: () => step(1), before: () => show("before"), after: () => show("after"), flicker,
    edit: () => toggle("edit"), labels: () => toggle("labels"), brain: () => toggle("brain"), "window-reset": resetWindow,
    "show-list": KEYS.l, "show-agreement": showAgreement, "show-help": KEYS["?"], export: exportVotes,
    who: async () => { await askName(); await loadStudy(); open(state.current); },
  };
  for (const [id, action] of Object.entries(clicks)) {
    $(id).addEventListener("click", (event) => {
      event.currentTarget.blur(); // else Space would press it again
      action();
    });
  }
  for (const button of $("verdicts").children) button.addEventListener("click", () => vote(button.dataset.verdict));
  for (const id of ["dark", "bright"]) $(id).addEventListener("input", slidersToWindow);
  $("search").addEventListener("input", applyFilter);
  $("filter").addEventListener("change", applyFilter);
  for (const [view, words] of [...Object.entries(VIEWS), ["turn", "turn it"]]) {
    const button = text($("views"), "button", words);
    button.type = "button";
    button.dataset.view = view;
    button.addEventListener("click", () => { button.blur(); view === "turn" ? turn() : chooseView(view); });
  }
  markViews();
}

function showPlace(mm, words) {
  const [x, y, z] = [...mm].map((v) => v.toFixed(0));
  $("place").textContent = [`R ${x}, A ${y}, S ${z} mm`, ...words].join(" · ");
}

async function startViewer() {
  const canvases = { before: $("canvas-before"), after: $("canvas-after") };
  const viewer = new Viewer(canvases, await ask("api/labels"), {
    onPlace: showPlace,
    onWindow: windowToSliders,
  });
  try {
    await viewer.start();
    return viewer;
  } catch (error) {
    complain(new Error(`This browser cannot show the images (${error.message}). Faces and votes work.`));
    return null;
  }
}

async function main() {
  state.reviewer = sessionStorage.getItem("reviewer") ?? "";
  state.list = new List($("list"), $("rows"), open);
  listen();
  try {
    const study = await loadStudy();
    const wanted = decodeURIComponent(location.hash.slice(1));
    const first = state.cases.find((one) => one.id === wanted) ?? state.cases.find((one) => !one.verdict) ?? state.cases[0];
    state.list.select(first);
    document.body.dataset.ready = study.cases.length;
    state.viewer = await startViewer();
    show("after");
    await open(state.current ?? first);
  } catch (error) {
    complain(error);
  }
}

window.effaceReview = state; // for tests and the curious
main();
