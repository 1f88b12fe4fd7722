// Numbers and times as people read them. Null is shown as a dash, never as 0.

export const NOTHING = "–";

const wholes = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const threeDigits = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const toTheSecond = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const count = orNothing((value) => wholes.format(value));

/** A score from 0 to 100. */
export const score = orNothing((value) => wholes.format(value));

/** A ratio of 0 to 1 in per cent. */
export const percent = orNothing((value) => {
  if (value > 0 && value < 0.0005) return "< 0.1 %";
  const digits = value > 0 && value < 0.0995 ? 1 : 0;
  return `${(100 * value).toFixed(digits)} %`;
});

/** Microseconds, as ms or s. */
export const duration = orNothing((us) =>
  us < 999_500 ? `${threeDigits.format(us / 1000)} ms` : `${threeDigits.format(us / 1e6)} s`,
);

export const bytes = orNothing((value) => scaled(value, ["B", "kB", "MB", "GB", "TB", "PB"]));

export const bitRate = orNothing((value) =>
  scaled(value, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"]),
);

function orNothing(format) {
  return (value) => (value === null || value === undefined ? NOTHING : format(value));
}

function scaled(value, units) {
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? wholes.format(value) : threeDigits.format(value)} ${units[unit]}`;
}

/** Return "1 session", "2 sessions". */
export function counted(value, one, many) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** Milliseconds since 1970 from a time of the HTTP interface, which has nine decimals. */
export function parseTime(text) {
  return Date.parse(text.replace(/(\.\d{3})\d+/, "$1"));
}

/** Return the local time of `ms`, to the minute. */
export function localTime(ms) {
  return dateTime.format(ms);
}

/** Return a <time> with local text and the UTC time as its title. */
export function timeElement(ms, text = toTheSecond.format(ms)) {
  const utc = new Date(ms).toISOString();
  const node = document.createElement("time");
  node.dateTime = utc;
  node.title = `${utc.slice(0, 19).replace("T", " ")} UTC`;
  node.textContent = text;
  return node;
}

/** Return "12 s", "5 min", "3 h" or "2 days". */
export function age(ms) {
  const seconds = Math.max(0, ms / 1000);
  if (seconds < 90) return `${wholes.format(seconds)} s`;
  if (seconds < 5400) return `${wholes.format(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${wholes.format(seconds / 3600)} h`;
  return `${wholes.format(seconds / 86_400)} days`;
}
