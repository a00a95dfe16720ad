import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";

/**
 * Draws peaks as bars, up to `played` (0 to 1) in the accent colour. It is a picture: what it shows is also in words.
 */
export function WaveForm({ peaks, played = 0 }: { peaks: readonly number[]; played?: number }): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const shown = canvas.current;
    if (!shown) return undefined;
    const redraw = (): void => draw(shown, peaks, played);
    const observer = new ResizeObserver(redraw);
    observer.observe(shown);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", redraw);
    redraw();
    return () => {
      observer.disconnect();
      dark.removeEventListener("change", redraw);
    };
  }, [peaks, played]);
  return <canvas ref={canvas} class="wave" aria-hidden="true" />;
}

const [barWidth, gap] = [2, 1];

function draw(canvas: HTMLCanvasElement, peaks: readonly number[], played: number): void {
  const { clientWidth: width, clientHeight: height } = canvas;
  const context = canvas.getContext("2d");
  if (!context || width === 0 || height === 0) return;
  const scale = devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  context.scale(scale, scale);
  const style = getComputedStyle(canvas);
  const bars = Math.max(1, Math.floor(width / (barWidth + gap)));
  // A quiet recording is drawn larger, so that its shape can be seen.
  const loudest = Math.max(0.05, ...peaks);
  for (let bar = 0; bar < bars; bar++) {
    const from = Math.floor((bar * peaks.length) / bars);
    const to = Math.max(from + 1, Math.floor(((bar + 1) * peaks.length) / bars));
    const peak = Math.max(0, ...peaks.slice(from, to)) / loudest;
    const tall = Math.max(2, peak * height);
    context.fillStyle = bar / bars < played ? style.color : style.fill;
    context.fillRect(bar * (barWidth + gap), (height - tall) / 2, barWidth, tall);
  }
  if (played > 0) {
    context.fillStyle = style.color;
    context.fillRect(Math.min(width - 2, played * width), 0, 2, height);
  }
}
