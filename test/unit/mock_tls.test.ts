import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { HostStream, TlsOutcome } from "../../hal/api/hba.ts";
import type { StreamEnd, TlsOffer } from "../../hal/mock/stream.ts";
import { World } from "../../hal/mock/world.ts";

const test = suite("mock_tls");

class Sessions {
  readonly world: World;
  served: HostStream | null = null;
  host: StreamEnd | null = null;
  readonly arrived: string[] = [];
  outcome: TlsOutcome | null = null;

  constructor(seed: number) {
    this.world = new World({ seed });
    const appliance = this.world.addAppliance({
      name: "oak-a",
      cache: { sizeBytes: 1 << 20, domain: "battery" },
      shelves: [],
      hbaPorts: [{ name: "hba0", address: "oak-a:10809", protocol: "nbd" }],
      nics: [{ name: "nic0", address: "oak-a:7400" }],
    });
    let listening = false;
    appliance.start((hal) => {
      hal.hbaPorts[0]!.listen(
        (stream) => {
          this.served = stream;
          const take = (chunk: Uint8Array) => void this.arrived.push(new TextDecoder().decode(chunk));
          return { onData: take, onDrain() {}, onEnd() {}, onClose() {} };
        },
        () => {
          listening = true;
        },
      );
    });
    this.until(() => listening);
    this.world.connectHost(
      "oak-a:10809",
      (stream) => {
        this.host = stream;
        return { onData() {}, onDrain() {}, onEnd() {}, onClose() {} };
      },
      (reason) => assert.unreachable(reason),
    );
    this.until(() => this.host !== null && this.served !== null);
  }

  until(condition: () => boolean): void {
    assert.ok(this.world.runUntil(condition, 10_000));
  }

  text(): string {
    return this.arrived.join("");
  }

  begin(): void {
    this.served!.startTls((outcome) => {
      this.outcome = outcome;
    });
  }
}

function say(stream: StreamEnd, text: string): void {
  assert.is(stream.write(new TextEncoder().encode(text)), text.length);
}

for (const [offer, expected] of [
  [{ name: "db-1" }, true],
  ["no-certificate", false],
  ["rogue", false],
] as [TlsOffer, boolean][]) {
  test(`startTls meets the offer ${JSON.stringify(offer)} -> ${expected ? "its name, then its bytes" : "refused"}`, () => {
    const sessions = new Sessions(3);
    sessions.begin();
    sessions.host!.offerTls(offer);
    sessions.until(() => sessions.outcome !== null);
    assert.is(sessions.outcome!.ok, expected);
    if (!sessions.outcome!.ok) return;
    assert.is(sessions.outcome!.clientName, "db-1");
    const { shortWriteRate } = sessions.world.network.faults;
    sessions.world.network.faults.shortWriteRate = 0;
    say(sessions.host!, "inside");
    sessions.world.network.faults.shortWriteRate = shortWriteRate;
    sessions.until(() => sessions.text().length === 6);
    assert.is(sessions.text(), "inside");
  });
}

test("plain bytes where the offer belongs -> the handshake fails and they are never delivered", () => {
  const sessions = new Sessions(4);
  sessions.world.network.faults.shortWriteRate = 0;
  sessions.begin();
  say(sessions.host!, "plain");
  sessions.until(() => sessions.outcome !== null);
  assert.is(sessions.outcome!.ok, false);
  assert.is(sessions.text(), "");
});

test("an offer to an end that speaks plain -> bytes of a TLS record", () => {
  const sessions = new Sessions(5);
  sessions.host!.offerTls({ name: "db-1" });
  sessions.until(() => sessions.text().length >= 6);
  assert.is(sessions.text().charCodeAt(0), 0x16);
});

test("the seeded failure -> refused though all is right", () => {
  const sessions = new Sessions(6);
  sessions.world.network.faults.tlsFailureRate = 1;
  sessions.begin();
  sessions.host!.offerTls({ name: "db-1" });
  sessions.until(() => sessions.outcome !== null);
  assert.is(sessions.outcome!.ok, false);
});

test.run();
