/**
 * The management API of one appliance of a pair. Each half of the array has an API of its own (`manage/api.ts`), here or at the partner;
 * this one puts them together, so that either appliance answers for the array, and answers for itself where it is asked about itself.
 *
 * Invariants:
 * - What names one thing goes to the half that has it. Names and LUNs are the array's: what gives one out asks both halves first, one command
 *   after the other (`array_turns.ts`).
 * - Lists show the halves that answer; a half that does not is in the status, and nothing is created meanwhile.
 * - Bad input is an answer, never an exception, from the partner as well.
 */
import * as v from "valibot";
import type { Clock } from "../hal/api/clock.ts";
import { type Api, type ApiAnswer, alwaysAnswering, createApi, decodeSegments, orTimeout } from "./manage/api.ts";
import { describeIssue, schemas } from "./manage/api_schemas.ts";
import type { FailoverJson, LabPort } from "./manage/control.ts";
import type { EventLog } from "./manage/events.ts";
import { mergedLists, mergePairStatus, mergeStatus, mergeSupport, once } from "./manage/merged_documents.ts";
import type {
  ApplianceJson,
  GroupJson,
  HostJson,
  PairStatusJson,
  StatusJson,
  WarningJson,
} from "./manage/status_json.ts";
import { ArrayTurns } from "./pair/array_turns.ts";
import { pairLimits } from "./pair/limits.ts";
import type { Partnership } from "./pair/partnership.ts";
import type { PairAppliance } from "./pair_appliance.ts";

export interface PairApiParts {
  readonly pair: PairAppliance;
  readonly array: string;
  readonly appliance: string;
  readonly version: string;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly lab: LabPort | null;
  /** As in `ApiParts`. */
  readonly trial?: () => string | null;
}

interface Half {
  readonly partnership: Partnership;
  readonly own: Api;
}

export function createPairApi(parts: PairApiParts): Api {
  const { pair, events, clock, lab, trial } = parts;
  const halves = pair.halves.map((partnership): Half => {
    const own = createApi({
      get control() {
        return partnership.engine?.control ?? null;
      },
      pair: partnership,
      tenure: pair.tenures[partnership.half]!,
      events,
      clock,
      lab,
      ...(trial === undefined ? {} : { trial }),
    });
    partnership.api = alwaysAnswering(
      events,
      (method, path, body) =>
        pair.answerPartner(partnership.half, path, body) ??
        array.answerInTurn(method, path, body) ??
        own(method, path, body),
    );
    return { partnership, own };
  });
  const array = new ArrayApi(parts, halves);
  return alwaysAnswering(events, (method, path, body) => array.answer(method, path, body));
}

class ArrayApi {
  readonly #parts: PairApiParts;
  readonly #halves: readonly Half[];
  readonly #turns: ArrayTurns;
  /** The failover that was begun here and is under way; the end of a sentence. */
  #handingOver: string | null = null;

  constructor(parts: PairApiParts, halves: readonly Half[]) {
    this.#parts = parts;
    this.#halves = halves;
    const { partnership } = halves[0]!;
    this.#turns = new ArrayTurns({
      isOwner: () => partnership.engine !== null,
      askOwner: (method, path, body) => partnership.askOwner(method, path, body),
      unsettled: () => this.#needsBoth() ?? unsettled(partnership),
      run: (method, path, body) => this.#give(method, path, body),
    });
  }

  /** For the partner's operators; null: not asked for. */
  answerInTurn(method: string, path: string, body: string): Promise<ApiAnswer> | null {
    return this.#turns.takeForPartner(method, path, body);
  }

  async answer(method: string, path: string, body: string): Promise<ApiAnswer> {
    const [pathname = "", query = ""] = path.split("?", 2);
    const decoded = decodeSegments(pathname);
    if (decoded === null) return failed(400, "invalid", "the path is not valid");
    const [, , noun = "", name, verb] = pathname.split("/");
    const line = `${method} ${pathname}`;
    if (noun === "events" || noun === "lab") return this.#halves[0]!.own(method, path, body);
    if (line === "GET /v1/pair") return ok(await this.#pairSeen());
    if (line === "GET /v1/pair/trial") return this.#partnerTrial();
    if (line.startsWith("POST /v1/pair/") && !isObject(body))
      return failed(400, "invalid", "the body must be a JSON object");
    if (line === "POST /v1/pair/failover") return this.#failover(body);
    if (line === "POST /v1/pair/move") return this.#move(body);
    if (line === "GET /v1/status") return ok(await this.#status());
    if (line === "GET /v1/support") return this.#support();
    const list = mergedLists[noun];
    if (list === undefined) return this.#halves[0]!.own(method, path, body);
    if (method === "GET" && name === undefined) return this.#list(noun, query);
    if (noun === "volumes" || noun === "groups") {
      if (name === undefined) return this.#turns.take(method, path, body);
      return this.#named(noun, decoded[2]!, method, path, body);
    }
    if (method === "GET") return this.#one(noun, decoded[2]!);
    if (noun === "hosts")
      return verb === "unmap" ? this.#unmap(method, path, body) : this.#turns.take(method, path, body);
    if (noun === "pools") return this.#everywhere(method, path, body);
    return this.#halves[0]!.own(method, path, body);
  }

  /** The half answers, wherever it is owned. */
  async #ask({ partnership, own }: Half, method: string, path: string, body = ""): Promise<ApiAnswer> {
    if (partnership.engine !== null) return own(method, path, body);
    return (await partnership.askOwner(method, path, body, waitOf(body))) ?? unsettled(partnership);
  }

  #askAll(method: string, path: string, body = ""): Promise<ApiAnswer[]> {
    return Promise.all(this.#halves.map((half) => this.#ask(half, method, path, body)));
  }

  /** What gives out names and LUNs, in its turn. */
  async #give(method: string, path: string, body: string): Promise<ApiAnswer> {
    const [, , noun = "", name, verb] = path.split("?", 1)[0]!.split("/");
    if (noun === "hosts") return this.#hosts(method, path, body, name, verb);
    if (noun === "volumes" || noun === "groups") return this.#create(noun, method, path, body);
    return failed(400, "invalid", `${method} ${path} gives out no names`);
  }

  // ---------------------------------------------------------------- reading

  async #list(noun: string, query: string): Promise<ApiAnswer> {
    const answers = await this.#askAll("GET", query === "" ? `/v1/${noun}` : `/v1/${noun}?${query}`);
    const bodies = answers.filter(({ status }) => status === 200).map(({ body }) => body as unknown[]);
    return bodies.length === 0 ? answers[0]! : ok(mergedLists[noun]!.merge(bodies));
  }

  async #one(noun: string, wanted: string): Promise<ApiAnswer> {
    const list = await this.#list(noun, "");
    if (list.status !== 200) return list;
    const { key, what } = mergedLists[noun]!;
    const found = (list.body as Record<string, unknown>[]).find((item) => item[key] === wanted);
    return found === undefined ? failed(404, "not-found", `there is no ${what} ${wanted}`) : ok(found);
  }

  async #status(): Promise<StatusJson> {
    const { appliance } = this.#parts;
    const seen = this.#pairSeen();
    const statuses = await Promise.all(
      this.#halves.map(async (half) => {
        const answer = await this.#ask(half, "GET", "/v1/status");
        return answer.status === 200 ? (answer.body as StatusJson) : ownStatus(this.#parts, half.partnership);
      }),
    );
    const { partner } = this.#halves[0]!.partnership;
    const { state, warnings } = await seen;
    return mergeStatus(statuses, { appliance, partner, state, warnings });
  }

  /** As this appliance sees it, with what the partner warns of: of a standby that lacks a disk the owner knows. */
  async #pairSeen(): Promise<PairStatusJson> {
    const theirs = await this.#partnersWarnings();
    const own = this.#pairStatus();
    return { ...own, warnings: once([...own.warnings, ...theirs]) };
  }

  /** What the partner has to say of the pair: one that owns nothing may be the one that could not take over. Nobody waits long for it. */
  async #partnersWarnings(): Promise<WarningJson[]> {
    const asked = this.#halves.map(({ partnership }) => {
      const answer = partnership.askPartner("GET", "/v1/pair", "") ?? Promise.resolve(null);
      return orTimeout<ApiAnswer | null>(this.#parts.clock, pairLimits.warningsMs, answer, () => null);
    });
    const schema = v.object({ warnings: v.optional(v.array(v.object({ code: v.string(), text: v.string() })), []) });
    return (await Promise.all(asked)).flatMap((answer) => {
      const told = v.safeParse(schema, answer?.body);
      return answer?.status === 200 && told.success ? told.output.warnings : [];
    });
  }

  async #support(): Promise<ApiAnswer> {
    const answers = (await this.#askAll("GET", "/v1/support")).filter(({ status }) => status === 200);
    const status = await this.#status();
    return ok(
      mergeSupport(
        answers.map(({ body }) => body as Record<string, unknown>),
        status,
        this.#pairStatus(),
      ),
    );
  }

  #pairStatus(): PairStatusJson {
    return mergePairStatus(this.#halves.map(({ partnership }) => partnership.status()));
  }

  // ---------------------------------------------------------------- things of one half

  /** Which half has it; an answer says why that is not known. */
  async #halfOf(noun: "volumes" | "groups", name: string): Promise<Half | ApiAnswer> {
    const answers: ApiAnswer[] = [];
    for (const half of this.#halves) {
      const answer = await this.#ask(half, "GET", `/v1/${noun}/${inPath(name)}`);
      if (answer.status === 200) return half;
      answers.push(answer);
    }
    // It may be in a half that has not answered.
    return answers.find(({ status }) => status !== 404) ?? answers[0]!;
  }

  async #named(
    noun: "volumes" | "groups",
    name: string,
    method: string,
    path: string,
    body: string,
  ): Promise<ApiAnswer> {
    const half = await this.#halfOf(noun, name);
    if (isHalf(half)) return this.#ask(half, method, path, body);
    if (half.status !== 404) return half;
    // A damaged group has no name: whoever knows it by its id gives it up.
    for (const one of this.#halves) {
      const answer = await this.#ask(one, method, path, body);
      if (answer.status !== 404) return answer;
    }
    return half;
  }

  /** A volume goes to its group's half; a new group to its owner's, or to the half that has fewer. */
  async #create(noun: "volumes" | "groups", method: string, path: string, body: string): Promise<ApiAnswer> {
    const asked = parsed(body);
    const name = typeof asked["name"] === "string" ? asked["name"] : "";
    const { owner, ...rest } = asked;
    const lists = await this.#askAll("GET", "/v1/groups");
    const silent = lists.find(({ status }) => status !== 200);
    if (silent !== undefined) return this.#needsBoth() ?? silent;
    const groupsOf = lists.map(({ body: groups }) => groups as GroupJson[]);
    if (groupsOf.some((groups) => groups.some((group) => noun === "volumes" && group.volumes.includes(name))))
      return failed(409, "exists", `volume ${name} exists; choose another name`);
    const group = noun === "groups" ? name : typeof asked["group"] === "string" ? asked["group"] : name;
    const known = groupsOf.findIndex((groups) => groups.some((one) => one.name === group));
    const wanted =
      owner === undefined ? null : this.#halves.findIndex(({ partnership }) => partnership.preferredOwner === owner);
    if (wanted !== null && wanted < 0) return failed(404, "not-found", this.#noAppliance(owner));
    const fewest = groupsOf[1]!.length < groupsOf[0]!.length ? 1 : 0;
    const half = this.#halves[known >= 0 ? known : (wanted ?? fewest)]!;
    return this.#ask(half, method, path, JSON.stringify(rest));
  }

  #noAppliance(name: unknown): string {
    const { array, appliance } = this.#parts;
    return `array ${array} has no appliance ${name}; its appliances are ${appliance} and ${this.#halves[0]!.partnership.partner}`;
  }

  // ---------------------------------------------------------------- things of both

  async #everywhere(method: string, path: string, body: string): Promise<ApiAnswer> {
    const answers = await this.#askAll(method, path, body);
    const bad = answers.find(({ status }) => status !== 200);
    return bad ?? ok(mergedLists["pools"]!.mergeResults!(answers.map(({ body: result }) => result as never)));
  }

  /** A host is known to both halves; each has the mappings of its own volumes. */
  async #hosts(method: string, path: string, body: string, name?: string, verb?: string): Promise<ApiAnswer> {
    if (verb === "map") return this.#map(path, body, name!);
    const reachable = await this.#askAll("GET", "/v1/hosts");
    const silent = reachable.find(({ status }) => status !== 200);
    if (silent !== undefined) return this.#needsBoth() ?? silent;
    const answers: ApiAnswer[] = [];
    for (const half of this.#halves) {
      const answer = await this.#ask(half, method, path, body);
      if (answer.status !== 200) {
        // None is known to one half alone.
        if (method === "POST" && answers.length > 0)
          await this.#ask(this.#halves[0]!, "DELETE", `/v1/hosts/${inPath(String(parsed(body)["name"]))}`);
        return answer;
      }
      answers.push(answer);
    }
    return answers[0]!;
  }

  async #unmap(method: string, path: string, body: string): Promise<ApiAnswer> {
    const half = await this.#halfOf("volumes", String(parsed(body)["volume"]));
    return isHalf(half) ? this.#ask(half, method, path, body) : half;
  }

  async #map(path: string, body: string, host: string): Promise<ApiAnswer> {
    const asked = parsed(body);
    const half = await this.#halfOf("volumes", String(asked["volume"]));
    if (!isHalf(half)) return half;
    const others = this.#halves.filter((one) => one !== half);
    const taken: number[] = [];
    for (const other of others) {
      const answer = await this.#ask(other, "GET", `/v1/hosts/${inPath(host)}`);
      if (answer.status !== 200) return answer;
      taken.push(...(answer.body as HostJson).mappings.map(({ lun }) => lun));
    }
    let lun = asked["lun"] ?? null;
    if (typeof lun === "number" && taken.includes(lun))
      return failed(409, "exists", `LUN ${lun} of host ${host} is another volume; choose another --lun`);
    if (lun === null) {
      const answer = await this.#ask(half, "GET", `/v1/hosts/${inPath(host)}`);
      if (answer.status !== 200) return answer;
      const { mappings } = answer.body as HostJson;
      const present = mappings.find(({ volume }) => volume === asked["volume"]);
      const all = new Set([...taken, ...mappings.map((one) => one.lun)]);
      lun = 0;
      while (all.has(lun as number)) lun = (lun as number) + 1;
      lun = present?.lun ?? lun;
    }
    const answer = await this.#ask(half, "POST", path, JSON.stringify({ ...asked, lun }));
    return answer.status === 200 ? this.#one("hosts", host) : answer;
  }

  // ---------------------------------------------------------------- the pair

  async #partnerTrial(): Promise<ApiAnswer> {
    const { partnership } = this.#halves[0]!;
    return (await partnership.askPartner("GET", "/v1/trial", "")) ?? unsettled(partnership);
  }

  async #failover(body: string): Promise<ApiAnswer> {
    const { appliance, clock } = this.#parts;
    const { partner } = this.#halves[0]!.partnership;
    const { home = false, ...rest } = parsed(body);
    const asked = v.safeParse(schemas.pairFailover, rest, { abortEarly: true });
    if (!asked.success) return failed(400, "invalid", describeIssue(asked.issues[0]));
    if (typeof home !== "boolean") return failed(400, "invalid", "home: must be true or false");
    const { to: named, timeoutMs } = asked.output;
    if (home && named !== null)
      return failed(400, "invalid", "--to and --home are two ways to say who is to own what; give one of them");
    const first = this.#halves[0]!.partnership.status().owner;
    const to = named ?? (first === appliance ? partner : appliance);
    if (to !== appliance && to !== partner) return failed(404, "not-found", this.#noAppliance(to));
    if (this.#handingOver !== null)
      return failed(409, "busy", `${this.#handingOver} is under way; ask again when it is over (goldcopy pair status)`);
    this.#handingOver = home ? "a failover to the preferred owners" : `a failover to ${to}`;
    const operation = this.#handOver(to, home).finally(() => {
      this.#handingOver = null;
    });
    return orTimeout(clock, timeoutMs, operation, (text) => failed(504, "timeout", text));
  }

  /** One half after the other, whether its caller waits or not. */
  async #handOver(to: string, home: boolean): Promise<ApiAnswer> {
    let changed = false;
    for (const half of this.#halves) {
      const owner = home ? half.partnership.preferredOwner : to;
      if (half.partnership.status().owner === owner) continue;
      const answer = await this.#ask(half, "POST", "/v1/pair/failover", JSON.stringify({ to: owner }));
      if (answer.status !== 200) {
        const refusal = answer.status === 503 ? (this.#needsBoth() ?? answer) : answer;
        return changed ? partly(refusal) : refusal;
      }
      changed ||= (answer.body as FailoverJson).changed;
    }
    const owner = this.#halves[0]!.partnership.status().owner ?? to;
    return ok({ changed, owner } satisfies FailoverJson);
  }

  /** What cannot be done while the interconnect is cut, at either appliance; null: it is not. */
  #needsBoth(): ApiAnswer | null {
    const isCut = this.#halves.some(({ partnership }) => partnership.status().state === "isolated");
    const text = "the interconnect is cut, and this needs both halves of the array; put it right, and ask again";
    return isCut ? failed(409, "not-connected", text) : null;
  }

  /** The group goes to the half that the appliance owns; one that owns none gets its own half first, with the groups in it. */
  async #move(body: string): Promise<ApiAnswer> {
    const { appliance, pair } = this.#parts;
    const { partner } = this.#halves[0]!.partnership;
    const asked = v.safeParse(schemas.pairMove, parsed(body), { abortEarly: true });
    if (!asked.success) return failed(400, "invalid", describeIssue(asked.issues[0]));
    const { group: name, to, timeoutMs } = asked.output;
    if (to !== appliance && to !== partner) return failed(404, "not-found", this.#noAppliance(to));
    const from = await this.#halfOf("groups", name);
    if (!isHalf(from)) return from;
    const done = (changed: boolean) => ok({ changed, owner: to } satisfies FailoverJson);
    if (from.partnership.status().owner === to) return done(false);
    const ownedBy = () => this.#halves.find(({ partnership }) => partnership.status().owner === to);
    if (ownedBy() === undefined) {
      const cut = this.#needsBoth();
      if (cut !== null) return cut;
      const home = this.#halves.find(({ partnership }) => partnership.preferredOwner === to)!;
      const answer = await this.#ask(home, "POST", "/v1/pair/failover", JSON.stringify({ to, timeoutMs }));
      if (answer.status !== 200) return answer;
      if (home === from) return done(true);
    }
    const half = from.partnership.half;
    if (from.partnership.engine !== null) {
      const moved = await pair.moveGroup(half, name, timeoutMs);
      return moved.ok ? done(true) : { status: 409, body: { error: moved.error } };
    }
    const request = JSON.stringify({ group: name, timeoutMs });
    const asking = from.partnership.askOwner("POST", "/half/move", request, timeoutMs);
    const answer = await (asking ?? unsettled(from.partnership));
    return answer.status === 200 ? done(true) : answer;
  }
}

function isHalf(found: Half | ApiAnswer): found is Half {
  return "own" in found;
}

/** Names from bodies may be any text. */
function inPath(name: string): string {
  return encodeURIComponent(name.toWellFormed());
}

function ok(body: unknown): ApiAnswer {
  return { status: 200, body };
}

function failed(status: number, code: string, text: string): ApiAnswer {
  return { status, body: { error: { code, text } } };
}

function partly({ status, body }: ApiAnswer): ApiAnswer {
  const { code, text } = (body as { error: { code: string; text: string } }).error;
  return failed(status, code, `${text}; the first half has been handed over, the second one has not`);
}

/** What is no object is judged by the half that gets it. */
function parsed(body: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(body === "" ? "{}" : body);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** Nothing is an empty one. */
function isObject(body: string): boolean {
  if (body === "") return true;
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

/** For how long a command may take, ms. What is no such time is judged by whoever gets it. */
function waitOf(body: string): number {
  const asked = v.safeParse(v.object({ timeoutMs: schemas.timeoutMs }), parsed(body));
  return asked.success ? asked.output.timeoutMs : 0;
}

function unsettled(partnership: Partnership): ApiAnswer {
  const text =
    partnership.status().state === "isolated"
      ? `the interconnect is cut, and ${partnership.partner} owns this part of the array: ask it there`
      : "who owns this part of the array is not settled yet; ask again in a moment";
  return failed(503, "starting", text);
}

/** What is known of a half without its owner. */
function ownStatus({ pair, array, appliance, version }: PairApiParts, partnership: Partnership): StatusJson {
  const { state, partner } = partnership.status();
  const servesOther = pair.halves.some(({ engine }) => engine !== null);
  const own: ApplianceJson = {
    name: appliance,
    state: state === "isolated" && servesOther ? "up" : "starting",
    battery: partnership.mirror.localBattery(),
    cacheDirtyBytes: 0,
    cacheBytes: partnership.mirror.sizeBytes,
  };
  if (partnership.role === "refused") {
    const warning = { code: "half-refused", text: `a part of the array is not served here: ${partnership.refusal}` };
    return statusOf([warning]);
  }
  const text =
    state === "isolated"
      ? `the interconnect is cut: ${partner} is alive and owns a part of the array, which this appliance waits for; look at the cables of both`
      : `${appliance} is starting: who owns the array is not settled yet`;
  return statusOf([{ code: state === "isolated" ? "pair-isolated" : "starting", text }]);

  function statusOf(warnings: readonly WarningJson[]): StatusJson {
    return {
      array,
      appliance,
      version,
      appliances: [own, partnership.partnerJson()],
      pair: { state, partner },
      groups: [],
      warnings: [...warnings, ...partnership.warnings()],
    };
  }
}
