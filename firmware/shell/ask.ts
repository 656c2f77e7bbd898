/** One request to the management API over a unix socket or HTTP. Only web standards: `fetch`. */
import type { Answer } from "./command.ts";

/** Never throws: what is not an answer of the API is `unreachable`. `limitMs`: gives up after this long. */
export async function askAppliance(
  at: string,
  method: string,
  path: string,
  body?: unknown,
  limitMs?: number,
): Promise<Answer<unknown>> {
  const isUrl = /^https?:\/\//.test(at);
  const url = isUrl ? `${at.replace(/\/+$/, "")}${path}` : `http://appliance${path}`;
  try {
    const response = await fetch(url, {
      method,
      // Long operations answer when they are done, not within fetch's default of five minutes.
      timeout: false,
      ...(isUrl ? {} : { unix: at }),
      ...(limitMs === undefined ? {} : { signal: AbortSignal.timeout(limitMs) }),
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
    } as BunFetchRequestInit);
    const value: unknown = await response.json();
    if (response.ok) return { ok: true, value };
    const error = (value as { error?: { code?: unknown; text?: unknown } } | null)?.error;
    return { ok: false, code: String(error?.code ?? "failed"), text: String(error?.text ?? `HTTP ${response.status}`) };
  } catch (error) {
    // Bun's own texts ask about typing errors; its codes say what happened.
    const code = (error as { code?: unknown } | null)?.code;
    const timedOut = error instanceof Error && error.name === "TimeoutError";
    if (timedOut)
      return {
        ok: false,
        code: "unreachable",
        text: `the appliance at ${at} took the request and did not answer in ${(limitMs ?? 0) / 1000} s`,
      };
    const why =
      typeof code === "string" ? code : error instanceof Error ? error.message.replace(/\s+/g, " ") : String(error);
    return {
      ok: false,
      code: "unreachable",
      text: `no appliance answers at ${at} (${why}): is it running? say where with --at or GOLDCOPY_AT`,
    };
  }
}
