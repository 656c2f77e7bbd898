/**
 * The appliance's management socket: HTTP on a unix socket, and on a TCP port where the profile says so, handed to a handler that knows
 * nothing of either.
 *
 * Invariants:
 * - A socket that another process serves is never taken; one that a killed process left behind is.
 * - A request that cannot be read is refused, and never given to `crash`.
 * - Only the socket's owner may connect, and at the port only who knows the secret is heard: whoever is, may do everything.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { causeOf, parseAddress } from "./address.ts";

export type ManagementHandler = (
  method: string,
  path: string,
  body: string,
) => Promise<{ readonly status: number; readonly body: unknown }>;

export interface ManagementSocket {
  close(): void;
}

const probeMs = 1000;
const invalidHost = { code: "invalid", text: "the request's Host header is not valid" };

/** A port for management from elsewhere. */
export interface ManagementPort {
  /** `HOST:PORT` */
  readonly listen: string;
  /** What requests have to prove that they know: the password of HTTP's basic authentication, for any user. */
  readonly secret: string;
}

type Fetch = (request: Request) => Promise<Response>;

/** Or why not, one line. `crash` gets what the handler threw: a defect. */
export async function serveManagement(wanted: {
  readonly path: string;
  /** null: none. */
  readonly port: ManagementPort | null;
  readonly bodyBytesMax: number;
  readonly handler: ManagementHandler;
  readonly crash: (error: unknown) => never;
}): Promise<ManagementSocket | string> {
  const { path, port, bodyBytesMax, handler, crash } = wanted;
  if (await isServed(path))
    return `another appliance serves ${path}: stop it, or give this profile another [manage] socket`;
  const answer: Fetch = async (request) => {
    // Without a Host header it is a path alone.
    const url = URL.parse(request.url, "http://appliance");
    if (url === null) return Response.json({ error: invalidHost }, { status: 400 });
    const { status, body } = await handler(request.method, url.pathname + url.search, await request.text());
    return Response.json(body, { status });
  };
  const serve = (
    where: { readonly unix: string } | { readonly hostname: string; readonly port: number },
    fetch: Fetch,
  ) => {
    // Long operations answer when they are done. (On a unix socket `server.timeout(request, 0)` has no effect in Bun 1.4.5.)
    const listening = { ...where, maxRequestBodySize: bodyBytesMax, idleTimeout: 0, fetch, error: crash };
    // bun-types know no idleTimeout for unix sockets; Bun does.
    return Bun.serve(listening as unknown as Bun.Serve.Options<undefined>);
  };
  const servers: ReturnType<typeof serve>[] = [];
  const close = () => {
    for (const server of servers) void server.stop(true);
    rmSync(path, { force: true });
  };
  try {
    mkdirSync(dirname(path), { recursive: true });
    rmSync(path, { force: true });
    servers.push(serve({ unix: path }, answer));
    chmodSync(path, 0o600);
  } catch (error) {
    return `cannot serve the management socket ${path}: ${causeOf(error)}; correct [manage] socket in the profile`;
  }
  if (port === null) return { close };
  try {
    const { host, port: number } = parseAddress(port.listen) ?? { host: port.listen, port: 0 };
    servers.push(serve({ hostname: host, port: number }, forWhoKnows(port.secret, answer)));
  } catch (error) {
    close();
    return `cannot serve management at ${port.listen}: ${causeOf(error)}; correct [manage] listen in the profile`;
  }
  return { close };
}

/** Nothing of a request is looked at before its secret. */
function forWhoKnows(secret: string, answer: Fetch): Fetch {
  const digestOf = (text: string) => createHash("sha256").update(text).digest();
  const right = digestOf(secret);
  return async (request) => {
    const basic = /^Basic ([A-Za-z0-9+/=]{1,1000})$/i.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
    const given = Buffer.from(basic, "base64")
      .toString()
      .replace(/^[^:]*:/, "");
    if (timingSafeEqual(digestOf(given), right)) return answer(request);
    const text = "the secret is missing or wrong; write it into the address: http://admin:SECRET@HOST:PORT";
    return Response.json({ error: { code: "unauthorized", text } }, { status: 401 });
  };
}

/** Whether somebody takes connections there; one who takes them and stays silent counts too (a paused process). */
function isServed(path: string): Promise<boolean> {
  return fetch("http://appliance/", { unix: path, signal: AbortSignal.timeout(probeMs) }).then(
    () => true,
    (error: unknown) => error instanceof Error && error.name === "TimeoutError",
  );
}
