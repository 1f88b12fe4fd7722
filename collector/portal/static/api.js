// Questions to the HTTP interface, and what went wrong with one in words.

import { storedToken } from "./token.js";

const ROOT = "/api/v1";
const TIMEOUT_MS = 60_000;

/** An answer that is an error (status from 400) or none at all (status 0). */
export class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }

  /** Return a sentence for a person. */
  get words() {
    if (this.status === 0) return `The collector cannot be reached: ${this.message}.`;
    if (this.status === 401) return "The collector asks for a valid token.";
    if (this.status === 403) return `This token is not enough: ${this.message}.`;
    if (this.status === 404) return "There is nothing here in this time range.";
    if (this.status === 429) return "The collector is asked too often; wait a moment.";
    if (this.status === 503) return `The collector is busy or its store is down: ${this.message}.`;
    return `The collector refused the question (${this.status}): ${this.message}.`;
  }
}

/** Return the JSON of GET `path`; a parameter that is null is left out. */
export async function get(path, parameters, signal) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined) query.append(name, value);
  }
  const { body } = await ask(`${path}${query.size ? "?" : ""}${query}`, {}, signal);
  return body;
}

/** Return the JSON of GET `path` and the collector's clock, ms since 1970. */
export async function getWithClock(path, signal) {
  const { body, response } = await ask(path, {}, signal);
  const clock = Date.parse(response.headers.get("Date") ?? "");
  return { body, clock: Number.isNaN(clock) ? Date.now() : clock };
}

/** Return the JSON of POST `path` with a JSON body. */
export async function post(path, value, signal) {
  const headers = { "Content-Type": "application/json" };
  const { body } = await ask(path, { method: "POST", headers, body: JSON.stringify(value) }, signal);
  return body;
}

async function ask(path, options, signal) {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const either = signal ? AbortSignal.any([signal, timeout]) : timeout;
  const headers = { Accept: "application/json", ...options.headers, ...authorization() };
  let response;
  try {
    response = await fetch(ROOT + path, {
      ...options, headers, signal: either, cache: "no-store", credentials: "omit",
    });
    if (response.ok) return { body: await response.json(), response };
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, timeout.aborted ? "no answer within a minute" : "no connection");
  }
  throw new ApiError(response.status, await detailOf(response));
}

function authorization() {
  const token = storedToken();
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function detailOf(response) {
  try {
    const problem = await response.json();
    return String(problem.detail ?? problem.title ?? response.statusText).replace(/\.$/, "");
  } catch {
    return response.statusText || "no reason given";
  }
}
