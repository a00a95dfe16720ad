/** Prints the CPU time of the sound meter, in nanoseconds per sample frame and as a share of real time. */
import type { PcmFormat } from "../src/audio/pcm-format.ts";
import { bytesPerPcmFrame } from "../src/audio/pcm-format.ts";
import { SoundMeter } from "../src/audio/meter/sound-meter.ts";

const seconds = 600;
const chunkBytes = 65_536;

const formats = (["s16le", "f32le"] as const).flatMap((sampleFormat): PcmFormat[] => [
  { sampleFormat, channels: 2, sampleRateHz: 44_100 },
  { sampleFormat, channels: 1, sampleRateHz: 44_100 },
]);

// The first round includes compilation.
for (const round of [1, 2]) {
  console.log(`Round ${round}`);
  for (const format of formats) measure(format);
}

function measure(format: PcmFormat): void {
  const chunk = noise(format, chunkBytes);
  const chunks = Math.ceil((seconds * format.sampleRateHz * bytesPerPcmFrame(format)) / chunkBytes);
  const meter = new SoundMeter(format);
  const before = process.cpuUsage();
  for (let i = 0; i < chunks; i++) meter.add(chunk);
  const { frames, integratedLufs } = meter.finish();
  const { user, system } = process.cpuUsage(before);
  const cpuMs = (user + system) / 1000;
  console.log(
    `${format.sampleFormat} ${format.channels} ch: ${((cpuMs * 1e6) / frames).toFixed(2)} ns a frame,`,
    `${(cpuMs / seconds).toFixed(3)} ms a second of sound, ${integratedLufs?.toFixed(1)} LUFS`,
  );
}

/** Noise that grows louder and quieter, like music. */
function noise(format: PcmFormat, bytes: number): Buffer {
  const length = (bytes / bytesPerPcmFrame(format)) * format.channels;
  const samples = Float32Array.from({ length }, (_, i) => (Math.random() - 0.5) * Math.sin((2 * Math.PI * i) / length));
  return Buffer.from(
    format.sampleFormat === "f32le" ? samples.buffer : Int16Array.from(samples, (sample) => sample * 32_767).buffer,
  );
}
