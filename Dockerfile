# syntax=docker/dockerfile:1
FROM golang:1.26.8-alpine3.24 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
# Static binaries: the last stage needs nothing of this one.
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /out/ ./worker ./starter

FROM alpine:3.23.5
# Certificates for TLS to Temporal and Postgres, zones for schedules.
RUN apk add --no-cache ca-certificates tzdata && adduser -D -H -u 10001 rehome
COPY --from=build /out/worker /out/starter /usr/local/bin/
USER 10001:10001
EXPOSE 9464
ENTRYPOINT ["worker"]
