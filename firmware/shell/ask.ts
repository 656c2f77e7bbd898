/**
 * One request to the management API over a unix socket or HTTP (`http://admin:SECRET@HOST:PORT`, the board profile's [manage] secret). Only
 * web standards: `fetch`.
 */
import type { Answer } from "./command.ts";

/** Never throws: what is not an answer of the API is `unreachable`. `limitMs`: gives up after this long. */
export async function askAppliance(
  at: string,
  method: string,
  path: string,
  body?: unknown,
  limitMs?: number,
): Promise<Answer<unknown>> {
  const { url, headers, shown, unix } = placeOf(at);
  try {
    const response = await fetch(`${url}${path}`, {
      method,
      // Long operations answer when they are done, not within fetch's default of five minutes.
      timeout: false,
      ...(unix === null ? {} : { unix }),
      ...(limitMs === undefined ? {} : { signal: AbortSignal.timeout(limitMs) }),
      headers: body === undefined ? headers : { ...headers, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
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
        text: `the appliance at ${shown} took the request and did not answer in ${(limitMs ?? 0) / 1000} s`,
      };
    const why =
      typeof code === "string" ? code : error instanceof Error ? error.message.replace(/\s+/g, " ") : String(error);
    return {
      ok: false,
      code: "unreachable",
      text: `no appliance answers at ${shown} (${why}): is it running? say where with --at or GOLDCOPY_AT`,
    };
  }
}

interface Place {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** For messages: without the secret. */
  readonly shown: string;
  /** null: not by a unix socket. */
  readonly unix: string | null;
}

function placeOf(at: string): Place {
  const match = /^(https?:\/\/)(?:([^/@]*)@)?([^@]*?)\/*$/.exec(at);
  if (match === null) return { url: "http://appliance", headers: {}, shown: at, unix: at };
  const [, scheme, user, rest] = match;
  const url = `${scheme}${rest}`;
  return { url, headers: user === undefined ? {} : { authorization: `Basic ${btoa(user)}` }, shown: url, unix: null };
}
