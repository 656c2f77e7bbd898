/**
 * What the management API answers while the appliance is still starting: that it is, and its events so far. Everything else is
 * refused with `starting`, and nothing waits.
 */
import type { Api } from "./api.ts";
import type { EventLog } from "./events.ts";
import type { StatusJson } from "./status_json.ts";

export interface StartingFacts {
  readonly array: string;
  readonly appliance: string;
  readonly version: string;
  readonly cacheBytes: number;
  readonly events: EventLog;
}

export function createStartingApi(facts: StartingFacts): Api {
  const text = `${facts.appliance} is starting: it recovers its groups from the log; ask again in a moment`;
  return async (method, path) => {
    const [pathname] = path.split("?", 1);
    if (method === "GET" && pathname === "/v1/status") return { status: 200, body: statusOf(facts, text) };
    if (method === "GET" && pathname === "/v1/events") return { status: 200, body: facts.events.since(0) };
    return { status: 503, body: { error: { code: "starting", text } } };
  };
}

function statusOf({ array, appliance, version, cacheBytes }: StartingFacts, text: string): StatusJson {
  return {
    array,
    appliance,
    version,
    // Neither is known before the hardware is open; nothing is claimed to be good.
    appliances: [{ name: appliance, state: "starting", battery: "unknown", cacheDirtyBytes: 0, cacheBytes }],
    pair: null,
    groups: [],
    warnings: [{ code: "starting", text }],
  };
}
