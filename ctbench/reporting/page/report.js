"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);

  // Sorting: numbers by value, texts alphabetically; missing values come last in both directions.
  function sort(table, index, direction) {
    const body = table.tBodies[0];
    const key = function (row) {
      const cell = row.cells[index];
      const value = cell.getAttribute("data-value");
      if (value === null || value === "") {
        const text = cell.textContent.trim();
        return { missing: text === "–" || text === "", text: text };
      }
      return { missing: false, number: Number(value) };
    };
    const rows = Array.from(body.rows).map(function (row, place) { return { row: row, key: key(row), place: place }; });
    rows.sort(function (a, b) {
      if (a.key.missing !== b.key.missing) { return a.key.missing ? 1 : -1; }
      let order = 0;
      if (a.key.number !== undefined && b.key.number !== undefined) { order = a.key.number - b.key.number; }
      else { order = String(a.key.text).localeCompare(String(b.key.text)); }
      return direction * order || a.place - b.place;
    });
    rows.forEach(function (item) { body.appendChild(item.row); });
  }

  document.querySelectorAll("table.sortable").forEach(function (table) {
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach(function (head, index) {
      head.querySelector("button").addEventListener("click", function () {
        const first = head.textContent.includes("↑") ? "descending" : "ascending";
        const second = first === "ascending" ? "descending" : "ascending";
        const next = head.getAttribute("aria-sort") === first ? second : first;
        heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", next);
        sort(table, index, next === "ascending" ? 1 : -1);
      });
    });
  });

  // Marks of a plot show their title in the tooltip of the page; without scripts the browser shows it.
  document.querySelectorAll(".chart use > title").forEach(function (title) {
    const mark = title.parentNode;
    mark.setAttribute("data-tip", title.textContent);
    mark.setAttribute("aria-label", title.textContent);
    title.remove();
  });

  // A table that is wider than the screen says so, and shows a shadow where it goes on.
  function mark(holder) {
    const more = holder.scrollWidth - holder.clientWidth - holder.scrollLeft > 2;
    const hint = holder.nextElementSibling;
    holder.classList.toggle("more", more);
    if (hint && hint.classList.contains("hint")) { hint.hidden = holder.scrollWidth - holder.clientWidth <= 2; }
  }
  document.querySelectorAll(".scroll").forEach(function (holder) {
    holder.addEventListener("scroll", function () { mark(holder); });
    new ResizeObserver(function () { mark(holder); }).observe(holder);
    mark(holder);
  });

  // A link to a folded section, or to the runs of a method in one, opens it.
  function unfold() {
    const target = location.hash.length > 1 ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
    for (let part = target; part; part = part.parentElement) {
      if (part.matches("details")) { part.open = true; }
    }
    if (target) { target.scrollIntoView(); }
  }
  window.addEventListener("hashchange", unfold);
  unfold();

  // Filters: tables of one stream or model, and methods with or without a trait. Plots and matrices show all methods.
  const filters = document.querySelector("form.filters");
  function filter() {
    const sections = Array.from(document.querySelectorAll("section[data-stream]"));
    const trait = filters.elements.trait.value;
    sections.forEach(function (section) {
      section.hidden = ["stream", "model"].some(function (name) {
        const wanted = filters.elements[name].value;
        return wanted !== "" && section.getAttribute("data-" + name) !== wanted;
      });
      document.querySelector('nav li[data-section="' + section.id + '"]').hidden = section.hidden;
    });
    document.querySelectorAll("[data-traits]").forEach(function (part) {
      const has = part.getAttribute("data-traits").split(" ").includes(trait.slice(1));
      part.hidden = trait !== "" && has !== (trait[0] === "+");
    });
    const shown = sections.filter(function (section) { return !section.hidden; });
    const rows = shown.flatMap(function (section) {
      return Array.from(section.querySelector("table.leaderboard").tBodies[0].rows);
    });
    const left = rows.filter(function (row) { return !row.hidden; });
    filters.querySelector("output").textContent = shown.length + " of " + sections.length + " tables, " +
      left.length + " of " + rows.length + " rows";
  }
  filters.addEventListener("change", filter);
  filters.addEventListener("submit", function (event) { event.preventDefault(); });
  filters.hidden = false;
  filter();

  // Pointing at a method in the legend dims all other methods in the plots.
  document.querySelectorAll(".legend li").forEach(function (item) {
    const charts = item.closest("section").querySelector(".charts");
    const own = charts.querySelectorAll(".e" + item.getAttribute("data-entry"));
    function pick(isPicked) {
      charts.classList.toggle("picked", isPicked);
      own.forEach(function (element) { element.classList.toggle("hot", isPicked); });
    }
    ["mouseenter", "focus"].forEach(function (name) { item.addEventListener(name, function () { pick(true); }); });
    ["mouseleave", "blur"].forEach(function (name) { item.addEventListener(name, function () { pick(false); }); });
  });

  // One tooltip for all elements with an explanation, by mouse, keyboard or touch.
  const tip = document.getElementById("tip");
  let told = null;
  function hide() {
    tip.hidden = true;
    if (told) { told.removeAttribute("aria-describedby"); told = null; }
  }
  function show(event) {
    const source = event.target.closest ? event.target.closest("[data-tip]") : null;
    hide();
    if (!source) { return; }
    told = source;
    told.setAttribute("aria-describedby", "tip");
    tip.textContent = source.getAttribute("data-tip");
    tip.hidden = false;
    const box = source.getBoundingClientRect();
    const width = tip.offsetWidth;
    const left = Math.max(4, Math.min(box.left + box.width / 2 - width / 2, document.documentElement.clientWidth - width - 4));
    const above = box.top - tip.offsetHeight - 6;
    tip.style.left = left + window.scrollX + "px";
    tip.style.top = (above > 0 ? above : box.bottom + 6) + window.scrollY + "px";
  }
  ["mouseover", "focusin", "click"].forEach(function (name) { document.addEventListener(name, show); });
  document.addEventListener("keydown", function (event) { if (event.key === "Escape") { hide(); } });

  // A matrix is one stop of the tab key; arrows go from cell to cell.
  document.querySelectorAll("table.matrix").forEach(function (table) {
    const cells = Array.from(table.tBodies[0].rows).map(function (row) { return Array.from(row.querySelectorAll("td")); });
    function enter(cell) {
      cells.flat().forEach(function (other) { other.tabIndex = other === cell ? 0 : -1; });
    }
    enter(cells[0][0]);
    table.addEventListener("focusin", function (event) {
      if (event.target.matches("td")) { enter(event.target); }
    });
    table.addEventListener("keydown", function (event) {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      const row = cells.findIndex(function (line) { return line.includes(event.target); });
      if (!step || row < 0) { return; }
      const next = (cells[row + step[0]] || [])[cells[row].indexOf(event.target) + step[1]];
      if (next) { event.preventDefault(); next.focus(); }
    });
  });

  // Method against method.
  function make(name, text, parent) {
    const element = document.createElement(name);
    if (text !== undefined) { element.textContent = text; }
    if (parent) { parent.appendChild(element); }
    return element;
  }
  function points(value) {
    if (value === null) { return "–"; }
    const text = (100 * value).toFixed(1);
    return text === "-0.0" || text === "0.0" ? "0.0" : value > 0 ? "+" + text : "−" + text.slice(1);
  }
  function shade(value, limit) {
    const share = Math.min(Math.abs(value) / limit, 1);
    const end = value < 0 ? [143, 59, 0] : [18, 63, 115];
    const mix = end.map(function (part) { return Math.round(255 + (part - 255) * share); });
    const light = mix.map(function (part) {
      const value = part / 255;
      return value <= 0.04045 ? value / 12.92 : Math.pow((value + 0.055) / 1.055, 2.4);
    });
    const luminance = 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2];
    return { background: "rgb(" + mix.join(",") + ")", color: luminance < 0.179 ? "#fff" : "#000" };
  }
  function differences(group, i, j, out) {
    const domains = group.domains[i];
    const columns = domains.map(function (name) { return group.domains[j].indexOf(name); });
    const runs = Object.keys(group.matrices[i]).filter(function (run) { return run in group.matrices[j]; });
    if (!runs.length) { make("p", "These two share no run.", out); return; }
    const table = group.matrices[i][runs[0]].map(function (row, r) {
      return row.map(function (_, c) {
        let sum = 0;
        for (const run of runs) {
          const value = group.matrices[i][run][r][c];
          const other = columns[c] < 0 ? null : group.matrices[j][run][r][columns[c]];
          if (value === null || other === null) { return null; }
          sum += value - other;
        }
        return sum / runs.length;
      });
    });
    const limit = Math.max(0.005, ...table.flat().map(function (value) { return value === null ? 0 : Math.abs(value); }));
    const holder = make("div", undefined, out);
    holder.className = "scroll";
    const element = make("table", undefined, holder);
    element.className = "matrix";
    make("caption", group.labels[i] + " minus " + group.labels[j] + ", points, mean over shared runs (n = " + runs.length + ")", element);
    const head = make("tr", undefined, make("thead", undefined, element));
    make("td", "", head);
    domains.forEach(function (name) { make("th", name, head).scope = "col"; });
    const body = make("tbody", undefined, element);
    table.forEach(function (row, r) {
      const line = make("tr", undefined, body);
      make("th", group.rows[i][r], line).scope = "row";
      row.forEach(function (value, c) {
        const cell = make("td", points(value), line);
        if (value === null) { cell.className = "missing"; return; }
        cell.className = r === 0 ? "" : r <= c ? "unseen" : r === c + 1 ? "own" : "seen";
        Object.assign(cell.style, shade(value, limit));
      });
    });
  }
  function intervals(group, i, j, out) {
    const swapped = i > j;
    const found = group.pairs[swapped ? j + "-" + i : i + "-" + j];
    if (!found) { make("p", "Too many methods: see ctbench compare --against for intervals.", out); return; }
    const holder = make("div", undefined, out);
    holder.className = "scroll";
    const element = make("table", undefined, holder);
    make("caption", "Paired differences over shared runs, points", element);
    const head = make("tr", undefined, make("thead", undefined, element));
    ["metric", "difference", "interval", "n", ""].forEach(function (name) { make("th", name, head).scope = "col"; });
    const body = make("tbody", undefined, element);
    group.metrics.forEach(function (name, place) {
      let [mean, low, high] = found[place];
      if (swapped) {
        mean = mean === null ? null : -mean;
        [low, high] = [high === null ? null : -high, low === null ? null : -low];
      }
      const line = make("tr", undefined, body);
      make("th", name, line).scope = "row";
      make("td", points(mean), line);
      make("td", low === null ? "–" : "[" + points(low) + ", " + points(high) + "]", line);
      make("td", String(found[place][3]), line);
      const sign = low === null ? 0 : low > 0 ? 1 : high < 0 ? -1 : 0;
      const better = group.better[place] === "higher" ? sign : -sign;
      make("td", low === null ? "too few runs" : better > 0 ? "first better" : better < 0 ? "second better" : "tie", line);
    });
  }
  document.querySelectorAll("form.duel").forEach(function (form) {
    const group = data[form.getAttribute("data-group")];
    const out = form.nextElementSibling;
    function draw() {
      const i = Number(form.elements.first.value);
      const j = Number(form.elements.second.value);
      out.replaceChildren();
      if (i === j) { make("p", "Choose two methods.", out); return; }
      differences(group, i, j, make("div", undefined, out));
      intervals(group, i, j, make("div", undefined, out));
    }
    form.addEventListener("change", draw);
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    draw();
  });
})();
