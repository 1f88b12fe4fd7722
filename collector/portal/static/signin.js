// The box that asks for a token.

import { element } from "./dom.js";
import { keepToken } from "./token.js";

/** Return the sign-in box; `words` say why it is there, `onToken` is called with a token kept. */
export function signInBox(words, onToken) {
  const input = element("input", {
    id: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false",
    "aria-describedby": "token-help token-problem",
  });
  const problem = element("p", { id: "token-problem", class: "problem", role: "alert" }, words);
  const form = element(
    "form", { class: "sign-in panel", submit: onSubmit },
    element("h1", {}, "Sign in"), problem,
    element("label", { for: "token" }, "Token"), input,
    element("button", { type: "submit" }, "Sign in"),
    element(
      "p", { id: "token-help", class: "note" },
      "It is kept in this tab only. Whoever runs the collector makes one with ",
      element("code", {}, "qoe-collector token create --role reader --name YOU"), ".",
    ),
  );

  function onSubmit(event) {
    event.preventDefault();
    const token = input.value.trim();
    if (!/^[\x21-\x7e]+$/.test(token)) {
      problem.textContent = "This is not a token: a token has no spaces and only ASCII characters.";
      return;
    }
    keepToken(token);
    onToken();
  }

  return form;
}
