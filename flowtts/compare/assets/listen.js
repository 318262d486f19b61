"use strict";
// A listening test. It knows clips by names that tell nothing; answers stay in this browser until they are saved.
(() => {
  const byId = (id) => document.getElementById(id);
  const test = JSON.parse(byId("test").textContent);
  const KINDS = {
    mos: {
      title: "Naturalness", about: "One clip at a time: how natural is the speech?", unit: "clip",
      question: "How natural is the speech?", players: [["the clip", "p"]],
      // The five categories of ITU-T P.800's listening-quality scale.
      options: [[5, "Excellent"], [4, "Good"], [3, "Fair"], [2, "Poor"], [1, "Bad"]],
    },
    ab: {
      title: "Preference", about: "Two clips of the same text: which one is better?", unit: "pair",
      question: "Which clip is better?", players: [["A", "a"], ["B", "b"]],
      options: [["a", "A is better"], ["same", "No difference"], ["b", "B is better"]],
    },
    smos: {
      title: "Voice", about: "A reference and a clip: how similar is the voice?", unit: "clip",
      question: "How similar is the voice of the clip to the reference? Judge the speaker, not the quality.",
      players: [["the reference", "r"], ["the clip", "p"]],
      options: [[5, "Extremely similar"], [4, "Very similar"], [3, "Moderately similar"], [2, "Slightly similar"],
        [1, "Not at all similar"]],
    },
  };
  const kinds = Object.keys(KINDS).filter((kind) => test[kind].length);

  // --- chance: a generator that starts from a text (FNV-1a into mulberry32), so that a reload changes nothing ---
  function hash(text) {
    let state = 2166136261;
    for (const character of text) state = Math.imul(state ^ character.codePointAt(0), 16777619);
    return state >>> 0;
  }
  function chance(text) {
    let state = hash(text);
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    };
  }
  function shuffled(values, random) {
    const found = [...values];
    for (let last = found.length - 1; last > 0; last -= 1) {
      const place = Math.floor(random() * (last + 1));
      [found[last], found[place]] = [found[place], found[last]];
    }
    return found;
  }

  // --- answers: {mos: {clip: 1..5}, smos: the same, ab: {"clip clip": {a, b, answer}}}; null where nobody could tell ---
  let listener = "";
  let answers = empty();
  let keeps = true;
  function empty() {
    return { mos: {}, ab: {}, smos: {}, open: { mos: 1, ab: 1, smos: 1 }, saved: 0 };
  }
  const place = (name = "") => `flowtts-listen ${test.comparison} ${name.toLowerCase()}`;
  function recall(key) {
    try {
      return localStorage.getItem(key);
    } catch {
      keeps = false;
      return null;
    }
  }
  function keep() {
    try {
      localStorage.setItem(place(), listener);
      if (listener) localStorage.setItem(place(listener), JSON.stringify(answers));
    } catch {
      keeps = false;
    }
    byId("storage-warning").hidden = keeps;
  }
  const all = (kind) => Object.values(answers[kind]);
  const given = () => kinds.flatMap(all).filter((value) => (value && value.answer !== undefined ? value.answer : value) !== null);

  // --- what this listener hears ---
  function firstSheet(count) {
    const number = /(\d{1,9})$/.exec(listener);
    return (number ? Number(number[1]) : hash(place(listener))) % count;
  }
  function trialsOf(kind) {
    const sheets = test[kind];
    const first = firstSheet(sheets.length);
    const found = [];
    for (let turn = 0; turn < Math.min(answers.open[kind], sheets.length); turn += 1) {
      const sheet = (first + turn) % sheets.length;
      const random = chance(`${place(listener)} ${kind} ${sheet}`);
      const blocks = shuffled(sheets[sheet], random).map((block) => shuffled(block, random));
      found.push(...blocks.flat().map((parts) => toTrial(kind, parts)));
    }
    return found;
  }
  function toTrial(kind, parts) {
    if (kind === "mos") return { id: parts[0], clips: parts, text: null };
    if (kind === "smos") return { id: parts[1], clips: parts, text: null };
    const [one, other, text] = parts;
    const swap = chance(`${place(listener)} ${one} ${other}`)() < 0.5;
    return { id: `${one} ${other}`, clips: swap ? [other, one] : [one, other], text };
  }
  const isRated = (kind, trial) => Object.hasOwn(answers[kind], trial.id);
  const ratedIn = (kind, trials) => trials.filter((trial) => isRated(kind, trial)).length;

  // --- sections ---
  function show(id) {
    stop();
    for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== id;
    byId("overview-button").hidden = id === "start" || id === "overview";
    byId("bar").hidden = id === "start";
    tellKept();
    window.scrollTo(0, 0);
    byId(`${id}-heading`).focus({ preventScroll: true });
  }
  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }
  const many = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
  function tellKept() {
    const count = given().length;
    const waiting = count - answers.saved;
    const state = count === 0 ? "" : waiting > 0 ? `, ${waiting} not saved` : ", all saved";
    byId("who").textContent = listener;
    byId("kept").textContent = `${many(count, "answer")}${state}`;
    byId("save").disabled = count === 0;
  }

  function overview() {
    byId("nothing").hidden = kinds.length > 0;
    byId("tests").replaceChildren(...kinds.map((kind) => {
      const trials = trialsOf(kind);
      const done = ratedIn(kind, trials);
      const ended = answers.open[kind] < test[kind].length ? "More" : "Look again";
      const word = done === 0 ? "Begin" : done < trials.length ? "Continue" : ended;
      const heading = make("h2", { id: `test-${kind}`, textContent: KINDS[kind].title });
      const button = make("button", { type: "button", className: done < trials.length ? "primary" : "quiet" }, word);
      button.setAttribute("aria-describedby", heading.id);
      button.addEventListener("click", () => (word === "More" ? finish(kind) : begin(kind)));
      const progress = make("progress", { max: trials.length, value: done });
      progress.setAttribute("aria-labelledby", heading.id);
      return make("li", { className: "card" }, heading, make("p", { textContent: KINDS[kind].about }), progress,
        make("div", { className: "along" }, make("span", { className: "soft", textContent: `${done} of ${trials.length}` }), button));
    }));
    show("overview");
  }

  // --- one trial ---
  let now = null;
  function begin(kind) {
    const trials = trialsOf(kind);
    const first = trials.findIndex((trial) => !isRated(kind, trial));
    go(kind, trials, first < 0 ? 0 : first);
  }
  function go(kind, trials, at) {
    stop();
    now = { kind, trials, at, trial: trials[at], heard: new Set(), broken: false, players: [] };
    const { title, unit, question, players, options } = KINDS[kind];
    const { clips, text } = now.trial;
    byId("trial-heading").textContent = `${title}: ${unit} ${at + 1} of ${trials.length}`;
    byId("text").hidden = text === null;
    byId("text-said").textContent = text || "";
    byId("question").textContent = question;
    const shown = now;
    now.players = players.map(([label, key], place) => player(shown, label, key, clips[place]));
    byId("players").replaceChildren(...now.players.map((one) => one.element));
    byId("players").className = `of-${kind}`;
    const numbered = options.map(([value, label], place) => [value, label, kind === "ab" ? place + 1 : value]);
    byId("options").className = kind === "ab" ? "across" : "down";
    byId("options").replaceChildren(...numbered.map(([value, label, key]) => option(value, label, key)));
    const letters = players.map(([label, key]) => `${key.toUpperCase()} plays ${label}`);
    byId("keys-text").textContent = `Keys: ${letters.join(", ")}; 1 to ${options.length} answer; Enter goes on.`;
    byId("back").disabled = at === 0;
    show("trial");
    update();
  }
  function option(value, label, key) {
    const input = make("input", { type: "radio", name: "answer", value: String(value) });
    input.checked = String(current()) === String(value);
    input.addEventListener("change", () => answer(value));
    return make("label", {}, input, make("span", { textContent: label }), make("kbd", { textContent: String(key) }));
  }
  function current() {
    const value = answers[now.kind][now.trial.id];
    return now.kind === "ab" && value ? value.answer : value;
  }
  function answer(value) {
    const { kind, trial } = now;
    answers[kind][trial.id] = kind === "ab" ? { a: trial.clips[0], b: trial.clips[1], answer: value } : value;
    answers.saved = Math.min(answers.saved, given().length - 1);
    keep();
    update();
    byId("said").textContent = `${ratedIn(kind, now.trials)} of ${now.trials.length} rated`;
  }
  const isAnswered = () => (current() ?? null) !== null;
  const ready = () => isAnswered() || now.trial.clips.every((name) => now.heard.has(name));
  function update() {
    const { kind, trials, trial } = now;
    byId("answers").disabled = !ready();
    byId("next").disabled = !isAnswered() && !now.broken;
    byId("next").textContent = now.broken && !isAnswered() ? "Skip" : "Next";
    byId("rated").textContent = `${ratedIn(kind, trials)} rated`;
    byId("trial-progress").max = trials.length;
    byId("trial-progress").value = ratedIn(kind, trials);
    const wait = trial.clips.length > 1 ? "Listen to both to the end, then choose." : "Listen to the end, then choose.";
    const broken = "This clip cannot be played. Is the folder “listen” beside this page? You can skip it.";
    byId("hint").textContent = ready() ? "" : now.broken ? broken : wait;
    tellKept();
  }
  function onward() {
    const { kind, trials, at } = now;
    if (byId("next").disabled) return;
    if (!isRated(kind, now.trial)) answer(null);
    if (at + 1 < trials.length) go(kind, trials, at + 1);
    else finish(kind);
  }
  function finish(kind) {
    const trials = trialsOf(kind);
    const left = trials.length - ratedIn(kind, trials);
    if (left) return begin(kind);
    const closed = test[kind].length - answers.open[kind];
    byId("more").hidden = closed <= 0;
    byId("more").textContent = "Go on with more clips";
    byId("more").onclick = () => {
      answers.open[kind] += 1;
      keep();
      begin(kind);
    };
    byId("finished-overview").textContent = kinds.length > 1 ? "Other tests" : "Overview";
    show("finished");
  }

  // --- sounds: one at a time ---
  function stop() {
    for (const one of now ? now.players : []) one.pause();
  }
  function player(mine, label, key, name) {
    const sound = new Audio(`listen/${name}.flac`);
    sound.preload = "auto";
    const word = make("span", { textContent: `Play ${label}` });
    const bar = make("span", { className: "track" }, make("i"));
    const mark = make("span", { className: "mark", textContent: "" });
    const button = make("button", { type: "button", className: "play" }, make("span", { className: "icon" }), word, mark,
      make("kbd", { textContent: key.toUpperCase() }), bar);
    function look() {
      const playing = !sound.paused && !sound.ended;
      button.classList.toggle("playing", playing);
      word.textContent = `${playing ? "Stop" : "Play"} ${label}`;
      mark.textContent = mine.heard.has(name) ? "heard" : "";
      bar.firstChild.style.width = `${sound.duration ? (100 * sound.currentTime) / sound.duration : 0}%`;
      if (playing) requestAnimationFrame(look);
    }
    function toggle() {
      if (!sound.paused && !sound.ended) return sound.pause();
      stop();
      sound.currentTime = 0;
      return sound.play().catch(() => undefined);
    }
    sound.addEventListener("play", look);
    sound.addEventListener("pause", look);
    sound.addEventListener("ended", () => {
      mine.heard.add(name);
      look();
      const before = byId("answers").disabled;
      if (mine === now) update();
      if (before && mine === now && ready()) byId("said").textContent = "Now choose.";
    });
    sound.addEventListener("error", () => {
      mine.broken = true;
      if (mine === now) update();
    });
    button.addEventListener("click", toggle);
    return { element: button, key, toggle, pause: () => sound.pause() };
  }

  // --- keys ---
  document.addEventListener("keydown", (event) => {
    if (byId("trial").hidden || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.key === "Enter") {
      if (event.target.closest("button, a, input")) return;
      event.preventDefault();
      onward();
      return;
    }
    if (!byId("keys").checked) return;
    const one = now.players.find((candidate) => candidate.key === event.key.toLowerCase());
    if (one) {
      event.preventDefault();
      one.toggle();
    }
    const label = Array.from(byId("options").children).find((candidate) => candidate.querySelector("kbd").textContent === event.key);
    if (!label) return;
    event.preventDefault();
    if (byId("answers").disabled) byId("said").textContent = byId("hint").textContent;
    else {
      label.firstChild.focus();
      label.firstChild.click();
    }
  });

  // --- saving ---
  function save() {
    const content = {
      kind: "flowtts-answers", format: test.format, comparison: test.comparison, listener,
      saved: new Date().toISOString(), mos: answers.mos, smos: answers.smos, ab: all("ab"),
    };
    const address = URL.createObjectURL(new Blob([`${JSON.stringify(content, null, 1)}\n`], { type: "application/json" }));
    const link = make("a", { href: address, download: `answers-${listener}.json` });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
    answers.saved = given().length;
    keep();
    tellKept();
    byId("said").textContent = `Saved as ${link.download}`;
  }

  function enter(name) {
    listener = name;
    try {
      answers = { ...empty(), ...JSON.parse(recall(place(listener)) || "{}") };
    } catch {
      answers = empty();
    }
    keep();
    overview();
  }
  function leave() {
    listener = "";
    answers = empty();
    keep();
    byId("listener").value = "";
    show("start");
    byId("listener").focus();
  }

  byId("listener-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = byId("listener").value.trim().normalize("NFC");
    const good = /^[\p{L}\p{M}\p{N}_-]{1,40}$/u.test(name);
    byId("listener-error").textContent = good ? "" : "Please give a name of letters, digits, - and _.";
    byId("listener").setAttribute("aria-invalid", String(!good));
    if (good) enter(name);
    else byId("listener").focus();
  });
  byId("trial-form").addEventListener("submit", (event) => {
    event.preventDefault();
    onward();
  });
  byId("back").addEventListener("click", () => go(now.kind, now.trials, now.at - 1));
  byId("overview-button").addEventListener("click", overview);
  byId("finished-overview").addEventListener("click", overview);
  byId("change").addEventListener("click", leave);
  byId("save").addEventListener("click", save);
  window.addEventListener("beforeunload", (event) => {
    if (!keeps && given().length > answers.saved) event.preventDefault();
  });

  const before = recall(place());
  byId("storage-warning").hidden = keeps;
  if (before) enter(before);
  else show("start");
})();
