import { suite } from "uvu";
import * as assert from "uvu/assert";
import { BrokenInvariant } from "../../firmware/codec/assert.ts";
import { type ApiAnswer, bodyCharsMax, createApi } from "../../firmware/manage/api.ts";
import type { MigrateJson, Result } from "../../firmware/manage/control.ts";
import { type EventJson, EventLog } from "../../firmware/manage/events.ts";
import { fakeControl, fakeLab, ManualClock } from "./fake_control.ts";

const test = suite("manage_api");

function setUp() {
  const fake = fakeControl();
  const clock = new ManualClock();
  const written: EventJson[] = [];
  const events = new EventLog(clock, (event) => written.push(event));
  const call = createApi({ control: fake.control, events, clock, lab: fakeLab(fake.calls) });
  const post = (path: string, body: unknown) => call("POST", path, JSON.stringify(body));
  return { fake, clock, events, written, call, post };
}

function errorOf(answer: ApiAnswer): { code: string; text: string } {
  return (answer.body as { error: { code: string; text: string } }).error;
}

test("status asked -> the control's own document", async () => {
  const { call, fake } = setUp();
  assert.equal(await call("GET", "/v1/status", ""), { status: 200, body: fake.status });
});

test("unknown resource -> 404 with a code", async () => {
  const { call } = setUp();
  for (const path of ["/", "/v1", "/v2/status", "/v1/status/", "/v1/volumes/a/b/c", "v1/status"]) {
    const answer = await call("GET", path, "");
    assert.ok(answer.status === 404 || answer.status === 400, path);
    assert.ok(["not-found", "invalid"].includes(errorOf(answer).code), path);
  }
  const missing = await call("GET", "/v1/volumes/nothing", "");
  assert.is(missing.status, 404);
  assert.is(errorOf(missing).code, "not-found");
});

test("method that a resource does not know -> 400", async () => {
  const { call } = setUp();
  const answer = await call("PUT", "/v1/status", "");
  assert.is(answer.status, 400);
  assert.match(errorOf(answer).text, "PUT");
});

test("volume with a good body -> created with its defaults", async () => {
  const { post, fake } = setUp();
  const answer = await post("/v1/volumes", { name: "data-1", sizeBytes: 1048576 });
  assert.is(answer.status, 200);
  assert.equal(fake.calls, ['volume.create {"name":"data-1","sizeBytes":1048576,"group":null,"pool":null}']);
});

test("bad bodies -> 400 that names the field, and the control is not asked", async () => {
  const { post, fake, call } = setUp();
  const bad: [string, unknown, string][] = [
    ["/v1/volumes", { name: "a b", sizeBytes: 4096 }, "name"],
    ["/v1/volumes", { name: "a@b", sizeBytes: 4096 }, "name"],
    ["/v1/volumes", { name: "x".repeat(64), sizeBytes: 4096 }, "name"],
    ["/v1/volumes", { name: "a", sizeBytes: 1000 }, "sizeBytes"],
    ["/v1/volumes", { name: "a", sizeBytes: 2 ** 60 }, "sizeBytes"],
    ["/v1/volumes", { name: "a", sizeBytes: "4096" }, "sizeBytes"],
    ["/v1/volumes", { name: "a", sizeBytes: 4096, surprise: 1 }, "surprise: not known to this array"],
    ["/v1/volumes", { sizeBytes: 4096 }, "name"],
    ["/v1/groups/demo/add-peer", { array: "elm", mode: "quick" }, "mode"],
    ["/v1/groups/demo/serve", { alone: false }, "alone"],
    ["/v1/groups/demo/migrate", { to: "elm", timeoutMs: 0 }, "timeoutMs"],
    ["/v1/hosts", { name: "h", addresses: ["10.0.0.0/33"] }, "addresses"],
    ["/v1/hosts", { name: "h", iqns: ["nonsense"] }, "iqns"],
    ["/v1/hosts", { name: "h", tlsNames: [""] }, "tlsNames"],
    ["/v1/hosts", { name: "h", tlsNames: ["a\u0000b"] }, "tlsNames"],
    ["/v1/hosts", { name: "h" }, "at least one"],
    ["/v1/hosts/h/map", { volume: "a", lun: -1 }, "lun"],
    ["/v1/lab/shape", { remote: "elm-a", loss: 2 }, "loss"],
    ["/v1/lab/fault", { kind: "fire", on: true }, "kind"],
  ];
  for (const [path, body, field] of bad) {
    const answer = await post(path, body);
    assert.is(answer.status, 400, `${path} ${JSON.stringify(body)}`);
    assert.is(errorOf(answer).code, "invalid");
    assert.match(errorOf(answer).text, field);
    assert.not.match(errorOf(answer).text, "\n");
  }
  for (const text of ["{", "[1]", "7", "null", `"${"x".repeat(bodyCharsMax)}"`, "[".repeat(60_000)]) {
    assert.is((await call("POST", "/v1/volumes", text)).status, 400, text.slice(0, 20));
  }
  for (const path of ["/v1/volumes/%zz", "/v1/volumes/a%00b", "/v1/volumes/..%2f..%2fetc", `/v1/${"x".repeat(2000)}`]) {
    const answer = await call("GET", path, "");
    assert.ok(answer.status === 400 || answer.status === 404, path);
  }
  assert.equal(fake.calls, []);
});

test("refusal of the control -> its code with a fitting status", async () => {
  const { post } = setUp();
  const exists = await post("/v1/volumes", { name: "taken", sizeBytes: 4096 });
  assert.is(exists.status, 409);
  assert.is(errorOf(exists).code, "exists");
  const reachable = await post("/v1/groups/demo/takeover", {});
  assert.is(reachable.status, 409);
  assert.is(errorOf(reachable).code, "primary-reachable");
});

test("operation beyond its timeout -> timeout, and the operation goes on", async () => {
  const { post, fake, clock } = setUp();
  let finish: (result: Result<MigrateJson>) => void = () => {};
  fake.migrate = () =>
    new Promise((resolve) => {
      finish = resolve;
    });
  const asked = post("/v1/groups/demo/migrate", { to: "elm", timeoutMs: 500 });
  clock.advance(500 + 1999);
  assert.is(clock.pendingTimers(), 1, "migrate itself may still say not-drained");
  clock.advance(1);
  const answer = await asked;
  assert.is(answer.status, 504);
  assert.is(errorOf(answer).code, "timeout");
  finish({ ok: false, error: { code: "failed", text: "late" } });
});

test("operation within its timeout -> its value, and no timer left", async () => {
  const { post, clock } = setUp();
  const answer = await post("/v1/groups/demo/migrate", { to: "elm" });
  assert.is(answer.status, 200);
  assert.is(clock.pendingTimers(), 0);
});

test("follower of events -> waits for the next one and sees it once", async () => {
  const { call, events, clock } = setUp();
  events.emit("first", "one");
  const seen = (await call("GET", "/v1/events", "")).body as EventJson[];
  assert.equal(
    seen.map((event) => event.code),
    ["first"],
  );
  const waiting = call("GET", "/v1/events?after=1&waitMs=5000", "");
  events.emit("second", "two", { seq: 7 });
  const next = (await waiting).body as EventJson[];
  assert.equal(next, [{ number: 2, at: "2026-11-21T03:04:05.678Z", code: "second", text: "two", fields: { seq: 7 } }]);
  assert.is(clock.pendingTimers(), 0);
  const idle = call("GET", "/v1/events?after=2&waitMs=5000", "");
  clock.advance(5000);
  assert.equal((await idle).body, []);
  assert.is((await call("GET", "/v1/events?after=x", "")).status, 400);
});

test("exception in the control -> 500 and an event; a broken invariant is not hidden", async () => {
  const { call, fake, written } = setUp();
  const control = fake.control as { status: () => unknown };
  control.status = () => {
    throw new Error("surprise");
  };
  const answer = await call("GET", "/v1/status", "");
  assert.is(answer.status, 500);
  assert.equal(
    written.map((event) => event.code),
    ["api-failed"],
  );
  control.status = () => {
    throw new BrokenInvariant("seq went back");
  };
  try {
    await call("GET", "/v1/status", "");
    assert.unreachable();
  } catch (error) {
    assert.instance(error, BrokenInvariant);
  }
});

test("support bundle -> everything in one document", async () => {
  const { call } = setUp();
  const bundle = (await call("GET", "/v1/support", "")).body as Record<string, unknown>;
  for (const part of ["status", "groups", "volumes", "hosts", "peers", "disks", "pools", "caches", "events"]) {
    assert.ok(part in bundle, part);
  }
});

test.run();
