/**
 * The management API of one appliance of a pair: it answers for the array while it owns it, brings requests to the partner that does, and
 * answers for itself where it is asked about itself.
 */
import type { Clock } from "../hal/api/clock.ts";
import { type Api, type ApiAnswer, createApi } from "./manage/api.ts";
import type { LabPort } from "./manage/control.ts";
import type { EventLog } from "./manage/events.ts";
import type { ApplianceJson, StatusJson } from "./manage/status_json.ts";
import type { Partnership } from "./pair/partnership.ts";

export interface PairApiParts {
  readonly partnership: Partnership;
  readonly array: string;
  readonly appliance: string;
  readonly version: string;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly lab: LabPort | null;
}

export function createPairApi(parts: PairApiParts): Api {
  const { partnership, appliance, events, clock, lab } = parts;
  const api = createApi({
    get control() {
      return partnership.engine?.control ?? null;
    },
    pair: partnership,
    events,
    clock,
    lab,
    elsewhere: async (method, path, body) => {
      const isStatus = method === "GET" && path.split("?", 1)[0] === "/v1/status";
      const asked = partnership.askOwner(method, path, body);
      if (asked === null) return isStatus ? { status: 200, body: ownStatus(parts) } : unsettled(partnership);
      const answer = await asked;
      if (!isStatus || answer.status !== 200) return answer;
      // It is this one that answers, and its partner is the one that was asked.
      const status = answer.body as StatusJson;
      const pair = status.pair === null ? null : { ...status.pair, partner: partnership.partner };
      return { status: 200, body: { ...status, appliance, pair } };
    },
  });
  partnership.api = api;
  return api;
}

function unsettled(partnership: Partnership): ApiAnswer {
  const text =
    partnership.status().state === "isolated"
      ? `the interconnect is cut, and ${partnership.partner} owns the array: ask it there`
      : "who owns the array is not settled yet; ask again in a moment";
  return { status: 503, body: { error: { code: "starting", text } } };
}

/** What is known of the array without its owner. */
function ownStatus({ partnership, array, appliance, version }: PairApiParts): StatusJson {
  const { state, partner } = partnership.status();
  const own: ApplianceJson = {
    name: appliance,
    state: "starting",
    battery: partnership.mirror.localBattery(),
    cacheDirtyBytes: 0,
    cacheBytes: partnership.mirror.sizeBytes,
  };
  const text =
    state === "isolated"
      ? `the interconnect is cut: ${partner} is alive and owns the array, and this appliance waits; look at the cables of both`
      : `${appliance} is starting: who owns the array is not settled yet`;
  return {
    array,
    appliance,
    version,
    appliances: [own, partnership.partnerJson()],
    pair: { state, partner },
    groups: [],
    warnings: [{ code: state === "isolated" ? "pair-isolated" : "starting", text }, ...partnership.warnings()],
  };
}
