// The part of the address after #: the view and the question, so that a link shows the same.
//
//   #/cell/001-01-0019C01?range=1h&point=s1u
//   #/subscriber/0123...?from=1767600000&to=1767603600

/** Return {view, id, choice, point}; choice is null where the address does not say. */
export function readAddress() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, id] = path.split("/");
  const parameters = new URLSearchParams(query);
  const known = ["cell", "subscriber"].includes(view) && id;
  return {
    view: known ? view : "network",
    id: known ? decoded(id) : null,
    choice: choiceOf(parameters),
    point: parameters.get("point"),
  };
}

/** Return the address of a view. */
export function addressOf({ view, id, choice, point }) {
  const parameters = new URLSearchParams();
  if (choice?.id === "custom") {
    parameters.set("from", Math.round(choice.from / 1000));
    parameters.set("to", Math.round(choice.to / 1000));
  } else if (choice) parameters.set("range", choice.id);
  if (point) parameters.set("point", point);
  const path = view === "network" ? "" : `${view}/${encodeURIComponent(id)}`;
  return `#/${path}${parameters.size ? "?" : ""}${parameters}`;
}

/** Return the address of another view with the question of the present one. */
export function linkTo(view, id = null) {
  return addressOf({ ...readAddress(), view, id });
}

function choiceOf(parameters) {
  const [from, to] = [seconds(parameters.get("from")), seconds(parameters.get("to"))];
  if (from !== null && to !== null && from < to) return { id: "custom", from, to };
  const id = parameters.get("range");
  return ["15m", "1h", "24h", "all"].includes(id) ? { id } : null;
}

function seconds(text) {
  return /^\d{1,10}$/.test(text ?? "") ? Number(text) * 1000 : null;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
