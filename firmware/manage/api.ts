/**
 * The versioned JSON API: `(method, path, body) -> {status, body}`. Entry points bind it to a socket.
 *
 * Invariants:
 * - Nothing reaches `Control` unjudged; bad input is an answer, never an exception.
 * - An answer is the value itself, or `{error: {code, text}}` with an HTTP status that fits the code.
 * - A caller waits at most its `timeoutMs`; the operation goes on.
 * - Version 1 only grows: routes and fields are added, never renamed.
 */
import * as v from "valibot";
import type { Clock } from "../../hal/api/clock.ts";
import { BrokenInvariant } from "../codec/assert.ts";
import { describeIssue, isName, nameRule, schemas } from "./api_schemas.ts";
import {
  type Control,
  type ControlErrorCode,
  done,
  type LabPort,
  type PairControl,
  type Result,
  refused,
} from "./control.ts";
import type { EventLog } from "./events.ts";
import { ringEventsMax } from "./events.ts";
import type { TrialJson } from "./status_json.ts";
import type { Tenure } from "./tenure.ts";

export interface ApiAnswer {
  readonly status: number;
  readonly body: unknown;
}

export type Api = (method: string, path: string, body: string) => Promise<ApiAnswer>;

export interface ApiParts {
  /** Of the array; null while another appliance owns it, or nobody does. */
  readonly control: Control | null;
  /** Where requests about the array go while there is no `control`. */
  readonly elsewhere?: Api;
  /** Of this appliance as one of two. */
  readonly pair?: PairControl;
  /** Of `control`, which may go to another appliance while it is at work. */
  readonly tenure?: Tenure;
  readonly events: EventLog;
  readonly clock: Clock;
  /** null where the hardware cannot be told to fail. */
  readonly lab: LabPort | null;
  /** Of an appliance image: what its version, which is on trial, waits for; null: none is. */
  readonly trial?: () => string | null;
}

/** A request's body is a handful of names and numbers; the largest is a host with 64 networks and 64 IQNs: 17 KiB. */
export const bodyCharsMax = 64 * 1024;
/** A follower asks again after this; well below the idle limits of sockets. */
const eventWaitMsMax = 60_000;
/** Operations that end by themselves at their timeout get this much more to say so. */
const ownTimeoutGraceMs = 2000;

interface Call {
  readonly control: Control;
  readonly parts: ApiParts;
  /** The segments of the path that stand for names, in order. */
  readonly names: readonly string[];
  readonly query: URLSearchParams;
  readonly body: unknown;
}

type Answer = Result<unknown> | Promise<Result<unknown>>;

interface Route {
  readonly method: string;
  /** Segments; `*` stands for a name. */
  readonly segments: readonly string[];
  readonly run: (call: Call) => Answer;
}

export function createApi(parts: ApiParts): Api {
  return alwaysAnswering(parts.events, (method, path, body) => answer(parts, method, path, body));
}

/** What `api` throws is an answer; a broken invariant is not one. */
export function alwaysAnswering(events: EventLog, api: Api): Api {
  return async (method, path, body) => {
    try {
      return await api(method, path, body);
    } catch (error) {
      if (error instanceof BrokenInvariant) throw error;
      const text = error instanceof Error ? error.message : String(error);
      events.emit("api-failed", `${method} ${path}: ${text}`);
      return { status: 500, body: { error: { code: "failed", text } } };
    }
  };
}

async function answer(parts: ApiParts, method: string, path: string, bodyText: string): Promise<ApiAnswer> {
  const result = await resultOf(parts, method, path, bodyText);
  if (!("ok" in result)) return result;
  if (result.ok) return { status: 200, body: result.value };
  return { status: httpStatusOf(result.error.code), body: { error: result.error } };
}

/** Or what somebody else has answered. */
function resultOf(
  parts: ApiParts,
  method: string,
  path: string,
  bodyText: string,
): Answer | Promise<Result<unknown> | ApiAnswer> {
  const [pathname = "", queryText = ""] = path.split("?", 2);
  const segments = decodeSegments(pathname);
  if (segments === null) return refused("invalid", "the path is not valid");
  const found = [...ownRoutes, ...routes, handOver].filter((route) => matches(route, segments));
  if (found.length === 0) return refused("not-found", `no such resource: ${pathname}`);
  const route = found.find((candidate) => candidate.method === method);
  if (route === undefined) return refused("invalid", `${method} is not possible on ${pathname}`);
  const names = segments.filter((_, index) => route.segments[index] === "*");
  const badName = names.find((name) => !isPathName(name));
  if (badName !== undefined) return refused("invalid", `a name must be ${nameRule}`);
  const body = parseBody(bodyText);
  if (body === undefined)
    return refused("invalid", `the body must be a JSON object of at most ${bodyCharsMax} characters`);
  const call = { parts, names, query: new URLSearchParams(queryText), body };
  if (ownRoutes.includes(route)) return route.run(call as unknown as Call);
  if (parts.control !== null) {
    const answer = route.run({ ...call, control: parts.control });
    if (parts.tenure === undefined || route === handOver) return answer;
    return parts.tenure.orOver(Promise.resolve(answer), () => ownerChanged);
  }
  return parts.elsewhere?.(method, path, bodyText) ?? noControl;
}

/** Places of disks hold a slash: `shelf0/2`. */
function isPathName(name: string): boolean {
  return isName(name) || /^[A-Za-z0-9._-]{1,63}\/\d{1,4}$/.test(name);
}

/** null: the path is not valid. */
export function decodeSegments(pathname: string): string[] | null {
  if (pathname.length > 1000 || !pathname.startsWith("/")) return null;
  try {
    return pathname.slice(1).split("/").map(decodeURIComponent);
  } catch {
    return null;
  }
}

function matches(route: Route, segments: readonly string[]): boolean {
  return (
    route.segments.length === segments.length &&
    route.segments.every((expected, index) => expected === "*" || expected === segments[index])
  );
}

function parseBody(text: string): unknown {
  if (text === "") return {};
  if (text.length > bodyCharsMax) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function httpStatusOf(code: ControlErrorCode): number {
  switch (code) {
    case "invalid":
      return 400;
    case "not-found":
      return 404;
    case "not-in-this-version":
      return 501;
    case "timeout":
      return 504;
    case "starting":
    case "stopping":
      return 503;
    case "failed":
      return 500;
    default:
      return 409;
  }
}

/** Answers with the operation's result, or with `late` after `waitMs`; the operation goes on. */
export function orTimeout<T>(
  clock: Clock,
  waitMs: number,
  operation: Promise<T>,
  late: (text: string) => T,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = clock.after(waitMs, () =>
      resolve(late(`not done after ${waitMs} ms; it goes on, see goldcopy status`)),
    );
    operation.then(
      (result) => {
        timer.cancel();
        resolve(result);
      },
      (error: unknown) => {
        timer.cancel();
        reject(error instanceof Error ? error : new Error(String(error)));
      },
    );
  });
}

function route(line: string, run: (call: Call) => Answer): Route {
  const [method = "", path = ""] = line.split(" ");
  return { method, segments: path.slice(1).split("/"), run };
}

/** A route whose body is judged by `schema` first. */
function judged<S extends v.GenericSchema>(
  line: string,
  schema: S,
  run: (call: Call, body: v.InferOutput<S>) => Answer,
): Route {
  return route(line, (call) => {
    const parsed = v.safeParse(schema, call.body, { abortEarly: true });
    if (!parsed.success) return refused("invalid", describeIssue(parsed.issues[0]));
    return run(call, parsed.output);
  });
}

/** An operation that may take long: `timeoutMs` of its body bounds the wait. */
function long<S extends v.GenericSchema<unknown, { timeoutMs: number }>>(
  line: string,
  schema: S,
  graceMs: number,
  run: (call: Call, body: v.InferOutput<S>) => Promise<Result<unknown>>,
): Route {
  return judged(line, schema, (call, body) =>
    orTimeout<Result<unknown>>(call.parts.clock, body.timeoutMs + graceMs, run(call, body), (text) =>
      refused("timeout", text),
    ),
  );
}

function byName<T>(items: readonly T[], nameOf: (item: T) => string, name: string, what: string): Result<T> {
  const found = items.find((item) => nameOf(item) === name);
  return found === undefined ? refused("not-found", `there is no ${what} ${name}`) : done(found);
}

const first = (call: Call): string => call.names[0] ?? "";

const routes: readonly Route[] = [
  route("GET /v1/status", ({ control }) => done(control.status())),

  route("GET /v1/volumes", ({ control }) => done(control.volumes.list())),
  route("GET /v1/volumes/*", (call) =>
    byName(call.control.volumes.list(), (volume) => volume.name, first(call), "volume"),
  ),
  judged("POST /v1/volumes", schemas.volumeCreate, ({ control }, body) => control.volumes.create(body)),
  judged("POST /v1/volumes/*/resize", schemas.volumeResize, (call, body) =>
    call.control.volumes.resize(first(call), body.sizeBytes),
  ),
  route("DELETE /v1/volumes/*", (call) => call.control.volumes.delete(first(call))),

  route("GET /v1/groups", ({ control }) => done(control.groups.list())),
  route("GET /v1/groups/*", (call) => call.control.groups.show(first(call))),
  judged("POST /v1/groups", schemas.groupCreate, ({ control }, body) => control.groups.create(body)),
  route("DELETE /v1/groups/*", (call) => call.control.groups.delete(first(call))),
  judged("POST /v1/groups/*/add-peer", schemas.groupPeer, (call, body) =>
    call.control.groups.addPeer(first(call), body),
  ),
  judged("POST /v1/groups/*/set-mode", schemas.groupPeer, (call, body) =>
    call.control.groups.setMode(first(call), body),
  ),
  long("POST /v1/groups/*/migrate", schemas.groupMigrate, ownTimeoutGraceMs, (call, body) =>
    call.control.groups.migrate(first(call), body),
  ),
  long("POST /v1/groups/*/takeover", schemas.groupTakeover, 0, (call, body) =>
    call.control.groups.takeover(first(call), body),
  ),
  long("POST /v1/groups/*/serve", schemas.groupServe, 0, (call, body) =>
    call.control.groups.serveAlone(first(call), body),
  ),
  long("POST /v1/groups/*/resync", schemas.groupResync, 0, (call, body) =>
    call.control.groups.resync(first(call), body),
  ),
  long("POST /v1/groups/*/failback", schemas.groupFailback, ownTimeoutGraceMs, (call, body) =>
    call.control.groups.failback(first(call), body),
  ),
  long("POST /v1/groups/*/verify", schemas.groupVerify, 0, (call, body) =>
    call.control.groups.verify(first(call), body),
  ),

  route("GET /v1/peers", ({ control }) => done(control.peers())),
  route("GET /v1/peers/*", (call) => byName(call.control.peers(), (peer) => peer.array, first(call), "peer array")),

  route("GET /v1/hosts", ({ control }) => done(control.hosts.list())),
  route("GET /v1/hosts/*", (call) => byName(call.control.hosts.list(), (host) => host.name, first(call), "host")),
  judged("POST /v1/hosts", schemas.hostAdd, ({ control }, body) =>
    body.any || body.addresses.length > 0 || body.iqns.length > 0 || body.tlsNames.length > 0
      ? control.hosts.add(body)
      : refused("invalid", "a host needs at least one of any, addresses, iqns, tlsNames"),
  ),
  judged("POST /v1/hosts/*/map", schemas.hostMap, (call, body) => call.control.hosts.map(first(call), body)),
  judged("POST /v1/hosts/*/unmap", schemas.hostUnmap, (call, body) =>
    call.control.hosts.unmap(first(call), body.volume),
  ),
  route("DELETE /v1/hosts/*", (call) => call.control.hosts.remove(first(call))),

  route("GET /v1/shelves", ({ control }) => done(control.shelves())),
  route("GET /v1/shelves/*", (call) => byName(call.control.shelves(), (shelf) => shelf.name, first(call), "shelf")),
  route("GET /v1/disks", ({ control }) => done(control.disks())),
  route("GET /v1/disks/*", (call) => byName(call.control.disks(), (disk) => disk.place, first(call), "disk")),
  route("GET /v1/pools", ({ control }) => done(control.pools())),
  route("GET /v1/pools/*", (call) => byName(call.control.pools(), (pool) => pool.name, first(call), "pool")),
  long("POST /v1/pools/*/scrub", schemas.poolScrub, 0, (call) => call.control.scrub(first(call))),
  route("GET /v1/caches", ({ control }) => done(control.caches())),
  route("GET /v1/caches/*", (call) =>
    byName(call.control.caches(), (cache) => cache.appliance, first(call), "appliance with a cache"),
  ),

  route("GET /v1/support", ({ control, parts }) => done(supportBundle(control, parts))),

  judged("POST /v1/pair/move", schemas.pairMove, (call) => (call.control.pair === null ? noPair : noSuchHalf)),
];

/** Asked of the owner, which is the owner no longer when it is done. */
const handOver: Route = long("POST /v1/pair/failover", schemas.pairFailover, 0, async (call, body) =>
  call.control.pair === null ? noPair : call.control.pair.failover(body.to),
);

/** About the appliance that is asked, whoever owns the array. */
const ownRoutes: readonly Route[] = [
  route("GET /v1/events", events),
  route("GET /v1/pair", ({ parts }) => (parts.pair === undefined ? noPair : done(parts.pair.status()))),
  route("GET /v1/trial", ({ parts }) => done({ trial: parts.trial?.() ?? null } satisfies TrialJson)),
  route("GET /v1/lab/links", ({ parts }) => (parts.lab === null ? noLab : done(parts.lab.links()))),
  judged("POST /v1/lab/shape", schemas.labShape, ({ parts }, body) => parts.lab?.shape(body) ?? noLab),
  judged("POST /v1/lab/fault", schemas.labFault, ({ parts }, body) => parts.lab?.fault(body) ?? noLab),
  judged("POST /v1/lab/stall", schemas.labStall, ({ parts }, body) => parts.lab?.stall(body) ?? noLab),
];

const noPair = refused("not-found", "this array has one appliance, and no pair");
/** What is between the halves is not for one of them to answer (`pair_api.ts`). */
const noSuchHalf = refused("failed", "a group is moved by its array, not by one half of it");
const ownerChanged = refused(
  "starting",
  "the array's owner has changed meanwhile, and whether this was done is not known; look, and ask again if it was not",
);
const noControl = refused("starting", "who owns the array is not settled yet; ask again in a moment");
const noLab = refused("not-in-this-version", "this hardware cannot be told to fail");

/** `after`: the newest event already seen; `waitMs`: how long to wait for a newer one; `limit`: at most so many, the newest. */
function events({ parts, query }: Call): Answer {
  const after = wholeNumber(query.get("after"), 0, Number.MAX_SAFE_INTEGER);
  const waitMs = wholeNumber(query.get("waitMs"), 0, eventWaitMsMax);
  const limit = wholeNumber(query.get("limit"), ringEventsMax, ringEventsMax);
  if (after === null || waitMs === null || limit === null) {
    return refused("invalid", "after, waitMs and limit must be whole numbers");
  }
  const found = parts.events.since(after, limit);
  if (found.length > 0 || waitMs === 0) return done(found);
  return new Promise((resolve) => {
    const timer = parts.clock.after(waitMs, () => {
      giveUp();
      resolve(done([]));
    });
    const giveUp = parts.events.whenAppended(() => {
      timer.cancel();
      resolve(done(parts.events.since(after, limit)));
    });
  });
}

/** `absent` when the text is missing; null when it is no number from 0 to `max`. */
function wholeNumber(text: string | null, absent: number, max: number): number | null {
  if (text === null) return absent;
  return /^\d{1,16}$/.test(text) && Number(text) <= max ? Number(text) : null;
}

/** Everything that helps to understand an appliance from afar; no data of hosts, no secrets. */
function supportBundle(control: Control, { events: log, lab }: ApiParts): unknown {
  const groups = control.groups.list().map((group) => {
    const shown = control.groups.show(group.name);
    return shown.ok ? shown.value : group;
  });
  return {
    status: control.status(),
    groups,
    volumes: control.volumes.list(),
    hosts: control.hosts.list(),
    peers: control.peers(),
    shelves: control.shelves(),
    disks: control.disks(),
    pools: control.pools(),
    caches: control.caches(),
    links: lab?.links() ?? [],
    events: log.since(0),
  };
}
