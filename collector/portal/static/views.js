// The three views: the network, one cell, one subscriber. Each is a list of panels.

import { linkTo } from "./address.js";
import { causesPanel } from "./causes.js";
import { element } from "./dom.js";
import { incidentsPanel } from "./incidents.js";
import { cellSubscribersPanel, cellsPanel, devicesPanel, servicesPanel } from "./lists.js";
import { probesPanel } from "./probes.js";
import { sessionsPanel } from "./sessions.js";
import { tilesPanel } from "./tiles.js";
import { timelinePanel } from "./timeline.js";

/** Return {title, heading, path, panels} of the view at `address`; `go` has onCell and onNarrow. */
export function viewOf(address, go) {
  if (address.view === "cell") return cellView(address.id, go);
  if (address.view === "subscriber") return subscriberView(address.id, go);
  return networkView(go);
}

function networkView({ onCell, onNarrow }) {
  return {
    title: "Network",
    path: null,
    heading: [element("h1", {}, "Network")],
    panels: [
      tilesPanel("/network"),
      incidentsPanel(),
      cellsPanel(onCell),
      timelinePanel("/network", onNarrow),
      causesPanel(),
      servicesPanel("/services"),
      devicesPanel(),
      probesPanel(),
    ],
  };
}

function cellView(id, { onNarrow }) {
  const path = `/cells/${encodeURIComponent(id)}`;
  return {
    title: `Cell ${id}`,
    path,
    what: "cell",
    heading: headingOf("Cell ", id),
    panels: [
      tilesPanel(path),
      incidentsPanel({ cell_id: id }),
      timelinePanel(path, onNarrow),
      causesPanel({ cell_id: id }),
      cellSubscribersPanel(id),
      servicesPanel("/services", { cell_id: id }),
      devicesPanel({ cell_id: id }),
    ],
  };
}

function subscriberView(id, { onNarrow }) {
  const path = `/subscribers/${encodeURIComponent(id)}`;
  return {
    title: `Subscriber ${id.slice(0, 12)}`,
    path,
    what: "subscriber",
    heading: headingOf("Subscriber ", id),
    panels: [
      tilesPanel(path, { withSubscribers: false }),
      sessionsPanel(`${path}/sessions`),
      timelinePanel(path, onNarrow),
      causesPanel({}, `${path}/failures`),
      servicesPanel(`${path}/services`),
    ],
  };
}

function headingOf(word, id) {
  return [
    element("nav", { "aria-label": "Way back" }, element("a", { href: linkTo("network") }, "Network")),
    element("h1", {}, word, element("span", { class: "id" }, id)),
  ];
}
