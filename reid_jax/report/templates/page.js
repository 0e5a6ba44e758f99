// Filters the ranked lists, judges them by a threshold, and copies the operating points.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const said = (id, text) => {
    document.querySelector(`output[for=${id}]`).textContent = text;
  };
  const lists = [...document.querySelectorAll(".list")];
  const cells = [...document.querySelectorAll(".ranks .cell[data-distance]")];
  const rates = JSON.parse(byId("rates").textContent);
  const percent = (share) => (100 * share).toPrecision(3);

  const filter = () => {
    const camera = byId("camera")?.value ?? "";
    const most = Number(byId("precision").value);
    said("precision", `${most} %`);
    for (const list of lists) {
      const elsewhere = camera !== "" && list.dataset.camera !== camera;
      list.hidden = elsewhere || Number(list.dataset.precision) > most;
    }
    for (const group of document.querySelectorAll(".group"))
      group.hidden = [...group.querySelectorAll(".list")].every((list) => list.hidden);
  };

  const judge = (threshold) => {
    document.body.classList.toggle("judged", threshold !== null);
    byId("clear").hidden = threshold === null;
    for (const cell of cells) {
      const accepted = threshold !== null && Number(cell.dataset.distance) <= threshold;
      cell.classList.toggle("accepted", accepted);
    }
  };

  const slide = () => {
    const place = Number(byId("threshold").value);
    const threshold = rates.threshold[place];
    said("threshold", `${threshold.toPrecision(4)}: ` +
      `${percent(rates.true_accept_rate[place])} % true accepts, ` +
      `${percent(rates.false_accept_rate[place])} % false accepts (${rates.measured_on})`);
    judge(threshold);
  };

  if (lists.length) {
    byId("controls").hidden = false;
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
    byId("camera")?.addEventListener("change", filter);
    byId("precision").addEventListener("input", filter);
    if (rates) {
      const nearest = rates.threshold.findIndex((threshold) => threshold >= rates.start);
      byId("threshold").value = nearest < 0 ? rates.threshold.length - 1 : nearest;
      byId("threshold").addEventListener("input", slide);
      byId("clear").addEventListener("click", () => {
        said("threshold", "none");
        judge(null);
      });
    }
  }

  const copy = byId("copy");
  if (copy) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      const rows = [...byId("points").querySelectorAll("thead tr, tbody tr")];
      const text = rows.map((row) => [...row.children].map((cell) => {
        const small = cell.querySelector("small")?.textContent;
        const value = small ? cell.firstChild.textContent : cell.textContent;
        return [`"${value}"`, ...(small ? [`"${small}"`] : [])].join(" ");
      }).join(",")).join("\n");
      try {
        await navigator.clipboard.writeText(text);
        copy.textContent = "Copied";
      } catch {
        const range = document.createRange();
        range.selectNode(byId("points"));
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        copy.textContent = "Selected: copy it with the keyboard";
      }
    });
  }
})();
