# hrm for the CPU:  docker build -t hrm . && docker run --rm -it hrm solve
# Runs and data stay outside:  docker run --rm -it -v "$PWD:/work" hrm train --config configs/sudoku-4x4.toml
FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package hrm-cli && cp target/release/hrm /hrm

FROM debian:bookworm-slim
COPY --from=build /hrm /usr/local/bin/hrm
WORKDIR /work
ENTRYPOINT ["hrm"]
CMD ["solve"]
