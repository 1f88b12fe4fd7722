// What limits the trust in what the page shows: old data, lost batches, dropped packets.

import { element } from "./dom.js";
import * as format from "./format.js";
import { allProbes, dropped, packets } from "./probes.js";
import { isStale } from "./question.js";

const DROPPED = 0.001; // share of packets from which a drop is worth a note
const MARKED = 0.01; // share of records

/** Return the notes of a question, each an element. */
export async function notesOf(question, quality) {
  const { data } = await allProbes(question);
  return [
    staleNote(question),
    ...data.map(missingNote),
    ...data.map(droppedNote),
    lossNote(quality.filter((row) => !question.point || row.capture_point === question.point)),
  ].filter(Boolean);
}

function staleNote({ range, held, clock }) {
  if (!isStale(range, held, clock)) return null;
  return note(
    "The newest data is from ", format.timeElement(held.to),
    ` (${format.age(clock - held.to)} ago). Is a probe sending?`,
  );
}

function missingNote(probe) {
  if (!probe.batches_missing && !probe.gaps.length) return null;
  const missing = probe.batches_missing
    ? format.counted(probe.batches_missing, "batch", "batches") : "some records";
  return note(`There are gaps: ${missing} of probe ${probe.probe_id} never arrived.`);
}

function droppedNote(probe) {
  const [lost, received] = [dropped(probe), packets(probe, "received")];
  const share = lost / (lost + received || 1);
  if (share < DROPPED) return null;
  return note(
    `Probe ${probe.probe_id} missed ${format.percent(share)} of its packets`,
    ` (${format.count(lost)} dropped); losses may look like the network's.`,
  );
}

function lossNote(rows) {
  const sum = (name) => rows.reduce((total, row) => total + row[name], 0);
  const share = sum("records_capture_loss") / (sum("records") || 1);
  if (share < MARKED) return null;
  return note(`${format.percent(share)} of the records were measured while packets were missed.`);
}

function note(...children) {
  return element("p", {}, ...children);
}
