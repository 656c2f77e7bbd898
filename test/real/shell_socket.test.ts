/** The command line as a process, against the management socket as an appliance serves it. */
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { bodyCharsMax, createApi } from "../../firmware/manage/api.ts";
import { EventLog } from "../../firmware/manage/events.ts";
import { type ManagementSocket, serveManagement } from "../../hal/linux/management_socket.ts";
import { fakeControl, ManualClock } from "../unit/fake_control.ts";
import { freePorts } from "./support/appliance.ts";

const root = join(import.meta.dir, "../..");

interface Context {
  dir: string;
  at: string;
  /** The same from elsewhere. */
  port: string;
  socket: ManagementSocket;
}

const test = suite<Context>("shell_socket");
const secret = "hJ4vQm9ZtX2cLr7w";

function crash(error: unknown): never {
  throw error;
}

test.before(async (context) => {
  context.dir = mkdtempSync(join(tmpdir(), "goldcopy-shell-"));
  context.at = join(context.dir, "run", "manage.sock");
  const clock = new ManualClock();
  const events = new EventLog(clock, () => {});
  events.emit("started", "fake");
  const handler = createApi({ control: fakeControl().control, events, clock, lab: null });
  const [number] = (await freePorts(1)) as [number];
  context.port = `127.0.0.1:${number}`;
  const port = { listen: context.port, secret };
  const served = await serveManagement({ path: context.at, port, bodyBytesMax: bodyCharsMax, handler, crash });
  assert.ok(typeof served !== "string", String(served));
  context.socket = served;
});

test.after((context) => {
  context.socket.close();
  rmSync(context.dir, { recursive: true, force: true });
});

async function goldcopy(words: string, at: string | null, cwd = root) {
  const { GOLDCOPY_AT: _, ...env } = process.env;
  const child = Bun.spawn([join(root, "scripts", "goldcopy"), ...words.split(" ")], {
    cwd,
    env: at === null ? env : { ...env, GOLDCOPY_AT: at },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, out, err };
}

test("status by GOLDCOPY_AT, from another directory -> the document, exit 0, nothing on stderr", async ({
  at,
  dir,
}) => {
  const { code, out, err } = await goldcopy("status --json", at, dir);
  assert.is(err, "");
  assert.is(code, 0);
  assert.is(JSON.parse(out).array, "oak");
});

test("refused, unreachable, usage -> exit 1, 1, 2, one line on stderr", async ({ at }) => {
  const refused = await goldcopy("volume create taken --size 1GiB", at);
  assert.is(refused.code, 1);
  assert.is(refused.out, "");
  assert.match(refused.err, /^goldcopy: .*\(exists\)\n$/);
  const nowhere = await goldcopy(`status --at ${at}.other`, null);
  assert.is(nowhere.code, 1);
  assert.match(nowhere.err, /^goldcopy: no appliance answers at .*\(unreachable\)\n$/);
  const usage = await goldcopy("volume create", at);
  assert.is(usage.code, 2);
  assert.is(usage.err.split("\n").length, 2);
});

test("socket -> only for its owner; served -> not taken; left behind -> taken over", async ({ at, dir }) => {
  assert.is(statSync(at).mode & 0o777, 0o600);
  const handler = async () => ({ status: 200, body: {} });
  const second = await serveManagement({ path: at, port: null, bodyBytesMax: 1000, handler, crash });
  assert.type(second, "string");
  assert.match(second as string, "another appliance serves");
  const stale = join(dir, "stale.sock");
  writeFileSync(stale, "");
  const taken = await serveManagement({ path: stale, port: null, bodyBytesMax: 1000, handler, crash });
  assert.ok(typeof taken !== "string", String(taken));
  taken.close();
  assert.not(existsSync(stale));
  const locked = join(dir, "file");
  writeFileSync(locked, "");
  chmodSync(locked, 0o600);
  const refused = await serveManagement({
    path: join(locked, "x.sock"),
    port: null,
    bodyBytesMax: 1000,
    handler,
    crash,
  });
  assert.type(refused, "string");
  assert.not.match(refused as string, "\n");
});

/** What the socket answers, up to the end of its first chunk. */
function sendRaw(path: string, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const stream = connect(path, () => stream.write(request));
    stream.once("data", (chunk) => {
      stream.destroy();
      resolve(String(chunk));
    });
    stream.once("error", reject);
  });
}

test("requests that are no good -> an error status, and the socket goes on", async ({ at }) => {
  const send = (path: string, init: RequestInit) => fetch(`http://appliance${path}`, { ...init, unix: at });
  const large = await send("/v1/volumes", { method: "POST", body: "x".repeat(bodyCharsMax + 1) });
  assert.ok(large.status >= 400);
  assert.is((await send("/v1/volumes", { method: "POST", body: "{" })).status, 400);
  assert.is((await send("/v1/nothing", { method: "GET" })).status, 404);
  assert.match(await sendRaw(at, "GET /v1/status HTTP/1.1\r\nHost: [\r\nConnection: close\r\n\r\n"), /^HTTP\/1.1 400 /);
  assert.match(await sendRaw(at, "GET /v1/status HTTP/1.0\r\n\r\n"), /^HTTP\/1.1 200 /);
  assert.is((await send("/v1/status", { method: "GET" })).status, 200);
});

test("by the management port -> who knows the secret is answered, nobody else is heard, and no message tells it", async ({
  at,
  port,
}) => {
  const known = await goldcopy("status --json", `http://admin:${secret}@${port}`);
  assert.is(known.err, "");
  assert.equal(JSON.parse(known.out), JSON.parse((await goldcopy("status --json", at)).out));
  for (const wrong of [`http://${port}`, `http://admin:${secret}x@${port}`]) {
    const { code, out, err } = await goldcopy("status", wrong);
    assert.is(code, 1);
    assert.is(out, "");
    assert.match(err, /the secret is missing or wrong; write it into the address: http:\/\/admin:SECRET@HOST:PORT/);
    assert.not.match(err, secret);
  }
  for (const authorization of ["", "Bearer x", "Basic", `Basic ${"A".repeat(5000)}`, `Basic ${btoa("admin:")}`]) {
    const answer = await fetch(`http://${port}/v1/status`, { headers: { authorization } });
    assert.is(answer.status, 401, authorization);
  }
  const gone = await goldcopy("status", `http://admin:${secret}@127.0.0.1:1`);
  assert.match(gone.err, /no appliance answers at http:\/\/127\.0\.0\.1:1 \(/);
  assert.not.match(gone.err, secret);
});

test("a management port that is taken -> refused in one line, and the socket is given back", async ({ dir, port }) => {
  const path = join(dir, "second.sock");
  const handler = async () => ({ status: 200, body: {} });
  const taken = await serveManagement({ path, port: { listen: port, secret }, bodyBytesMax: 1000, handler, crash });
  assert.is(
    taken,
    `cannot serve management at ${port}: the address is in use (EADDRINUSE); correct [manage] listen in the profile`,
  );
  assert.is(existsSync(path), false);
});

test.run();
