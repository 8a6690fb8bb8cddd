# syntax=docker/dockerfile:1
# The trainer. Build from the repository's root:
#   docker build -f docker/trainer.Dockerfile -t moerag-trainer .

FROM rust:1.95-bookworm AS build
WORKDIR /src
# The image has this toolchain; without the variable rustup would look for further components.
ENV RUSTUP_TOOLCHAIN=1.95.0
COPY . .
# Registry and build directory are kept between builds, so that only what changed is compiled again;
# docker/router.Dockerfile shares them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked -p router-service -p trainer-worker -p moerag-cli \
    && install -D -t /out target/release/trainer-worker target/release/moerag

FROM debian:bookworm-slim AS encoder
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/moerag /usr/local/bin/moerag
RUN moerag model fetch --dest /encoder

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home moerag \
    && install -d -o moerag -g moerag /data /data/checkpoints
COPY --from=encoder /encoder /encoder
COPY --from=build /out/trainer-worker /out/moerag /usr/local/bin/
USER moerag
ENV MOERAG_ENCODER_DIR=/encoder \
    MOERAG_DATA_DIR=/data \
    MOERAG_LISTEN=0.0.0.0:50052 \
    MATMUL_NUM_THREADS=1
VOLUME /data
EXPOSE 50052
HEALTHCHECK --interval=10s --timeout=8s --start-period=60s --retries=6 \
    CMD ["moerag", "health", "--addr", "http://127.0.0.1:50052"]
ENTRYPOINT ["trainer-worker"]
