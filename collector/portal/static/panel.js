// A part of a view with its own question: it loads, fails and is empty on its own.

import { ApiError } from "./api.js";
import { element } from "./dom.js";

/**
 * Return {element, refresh(question)}.
 *
 * `load(question)` gives the data, `content` shows it by `update(data, question)`. While a refresh
 * runs the old content stays; after a failure it goes, since it would answer another question.
 */
export function panel({ heading, note, load, content, className = "" }) {
  const state = element("p", { class: "state" }, "Loading …");
  const body = element("div", { class: "content", hidden: true }, content.element);
  const section = element(
    "section", { class: `panel ${className}`, "aria-busy": "true" },
    heading ? element("h2", {}, heading) : null,
    note ? element("p", { class: "note" }, note) : null, state, body,
  );

  function show(words) {
    state.textContent = words ?? "";
    state.hidden = words === null;
    body.hidden = words !== null;
  }

  return {
    element: section,
    async refresh(question) {
      section.setAttribute("aria-busy", "true");
      try {
        const data = await load(question);
        if (question.signal.aborted) return;
        show(null); // first, since plots measure the room they have
        await content.update(data, question);
      } catch (error) {
        if (question.signal.aborted) return;
        show(wordsOf(error));
      } finally {
        if (!question.signal.aborted) section.setAttribute("aria-busy", "false");
      }
    },
  };
}

function wordsOf(error) {
  if (error instanceof ApiError) return error.words;
  console.error(error);
  return "This part of the page has a fault; the rest is not affected.";
}
