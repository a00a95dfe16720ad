# Which ffmpeg goes into the image. minimal: PCM in, MP3 out, nothing else, made of Debian's sources, with Debian's security
# fixes; debian: Debian's own package, 60 times as large (docker compose build --build-arg FFMPEG=debian).
ARG FFMPEG=minimal
ARG NODE_IMAGE=node:24-bookworm-slim

FROM ${NODE_IMAGE} AS ffmpeg
WORKDIR /build
# Debian's lists name packages in one of two forms; sources are named beside them.
RUN find /etc/apt -name '*.list' -o -name '*.sources' \
    | xargs sed -i -e 's/^Types: deb$/Types: deb deb-src/' -e '/^deb /{p;s/^deb /deb-src /}' \
  && apt-get update \
  && apt-get install -y --no-install-recommends dpkg-dev gcc libc6-dev libmp3lame-dev make nasm xz-utils \
  && apt-get source --only-source ffmpeg \
  && mv ffmpeg-*/ source
RUN cd source \
  && ./configure --extra-version=minimal --disable-everything --disable-autodetect --disable-network --disable-doc \
    --disable-debug --disable-programs --enable-ffmpeg --disable-avdevice --disable-swscale --enable-libmp3lame \
    --enable-protocol=pipe --enable-demuxer=pcm_s16le,pcm_f32le --enable-decoder=pcm_s16le,pcm_f32le \
    --enable-filter=anull,aformat,aresample,asetrate --enable-encoder=libmp3lame --enable-muxer=mp3 --extra-ldflags=-static \
  && make -j"$(nproc)" ffmpeg \
  && dpkg-query --show --showformat 'lame ${Version}\n' libmp3lame-dev >sources.txt \
  && echo "ffmpeg $(dpkg-parsechangelog --show-field Version)" >>sources.txt

FROM ${NODE_IMAGE} AS runtime-minimal
COPY --from=ffmpeg /build/source/ffmpeg /usr/local/bin/
COPY --from=ffmpeg /build/source/sources.txt /usr/local/share/ffmpeg/

FROM ${NODE_IMAGE} AS runtime-debian
RUN apt-get update && apt-get install -y --no-install-recommends ffmpeg && rm -rf /var/lib/apt/lists/*

FROM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
# No install scripts: they would link the PostgreSQL that the image does not need.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json mikro-orm.config.ts vite.config.ts ./
COPY src ./src
COPY web ./web
# What builds is a dependency for hosting platforms, which build where they run. Types are checked where the tests are, as
# in `npm start`.
RUN node node_modules/typescript/bin/tsc -p . --noCheck \
  && node node_modules/vite/bin/vite.js build --logLevel warn \
  && npm pkg delete dependencies.typescript dependencies.vite dependencies.preact dependencies.@preact/signals \
  && npm prune --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund \
  && npm sbom --package-lock-only --omit=dev --omit=optional --sbom-format=cyclonedx >sbom.cdx.json

FROM runtime-${FFMPEG}
WORKDIR /app
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8000
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist/src ./dist/src
COPY --from=build /app/dist/page ./dist/page
COPY --from=build /app/sbom.cdx.json /app/package.json ./
USER node
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --start-interval=1s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT || 8000}/readyz`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# Stack traces name lines of the TypeScript.
# A small nursery (MiB), so that the buffers of dead objects do not pile up: see docs/performance.md.
CMD ["node", "--enable-source-maps", "--max-semi-space-size=8", "dist/src/main.js"]
