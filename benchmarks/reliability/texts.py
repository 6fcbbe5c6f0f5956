"""The configuration of each proxy for a plan. They say the same as far as each can say it:
three tries of a GET whatever happens to it, of anything else only where it provably did not run,
an endpoint that fails is left alone for about a second, a deadline of 15 s."""

import json
from pathlib import Path
from typing import Any

from benchmarks.reliability.plan import Plan

# In front of a service with two workers: what its queue may hold in each of two endpoints.
_PLACES = 8


def sidecar(plan: Plan, folder: Path) -> str:
    """Defaults."""
    listener: dict[str, Any] = {"bind": f"127.0.0.1:{plan.port}", "routes": [{"to": "web"}]}
    if plan.patience:
        patience = f"{plan.patience}s"
        listener["timeouts"] = {"first": patience, "header": patience, "body": patience, "write": patience}
    cluster: dict[str, Any] = {"endpoints": list(plan.endpoints), "limits": {"requests": 1024 + plan.version}}
    if plan.limited:
        cluster["limits"]["adaptive"] = True
    return json.dumps({"admin": {"bind": "127.0.0.1:0"}, "clusters": {"web": cluster}, "listeners": {"out": listener}})


def haproxy(plan: Plan, folder: Path) -> str:
    """Level 7 retries are switched off for what is no GET; a try that failed goes elsewhere."""
    limit = f" maxconn {_PLACES}" if plan.limited else ""
    servers = "\n".join(f"  server s{number} {address}{limit}" for number, address in enumerate(plan.endpoints))
    patience = plan.patience or 60
    return f"""
global
  nbthread 1
  maxconn {plan.files // 5 if plan.files else 4000}
defaults
  mode http
  timeout connect 1s
  timeout client {patience}s
  timeout http-request {patience}s
  timeout http-keep-alive 60s
  timeout server 15s
  timeout queue {500 if plan.limited else 15_000}ms
  http-reuse always
  option redispatch 1
  option abortonclose
  retries {2 + plan.version % 2}
  retry-on conn-failure empty-response response-timeout 502 503 504
frontend out
  bind 127.0.0.1:{plan.port}
  default_backend web
backend web
  balance leastconn
  http-request disable-l7-retry unless METH_GET
  default-server observe layer7 error-limit 5 on-error mark-down check inter 1s fall 1 rise 1
{servers}
"""


def nginx(plan: Plan, folder: Path) -> str:
    """It repeats what is not idempotent only where nothing was sent (proxy_next_upstream without
    non_idempotent)."""
    limit = f" max_conns={_PLACES}" if plan.limited else ""
    servers = " ".join(f"server {address} max_fails=5 fail_timeout=1s{limit};" for address in plan.endpoints)
    slow = ""
    if plan.patience:
        slow = (
            f"client_header_timeout {plan.patience}s; client_body_timeout {plan.patience}s; "
            f"send_timeout {plan.patience}s;"
        )
    return f"""
user root; worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
worker_shutdown_timeout 5s;
events {{ worker_connections {plan.files - 10 if plan.files else 4096}; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 3600s; {slow}
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream web {{ zone web 64k; least_conn; {servers} keepalive 64; }}
  server {{
    listen 127.0.0.1:{plan.port} backlog=4096;
    location / {{
      proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_connect_timeout 1s; proxy_read_timeout 15s;
      proxy_next_upstream error timeout http_502 http_503 http_504; proxy_next_upstream_tries {3 + plan.version % 2};
    }}
  }}
}}
"""


_TYPE = "type.googleapis.com/envoy.extensions.filters"
_RETRY = "type.googleapis.com/envoy.extensions.retry"
_SURE = "connect-failure,refused-stream,reset-before-request"
_ANY = "connect-failure,refused-stream,reset,gateway-error"


def envoy_listener(plan: Plan) -> str:
    """A file of listener discovery: what a reload replaces."""
    tries = 2 + plan.version % 2

    def route(match: dict[str, Any], retry_on: str) -> dict[str, Any]:
        retry = {
            "retry_on": retry_on,
            "num_retries": tries,
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {"@type": f"{_RETRY}.host.previous_hosts.v3.PreviousHostsPredicate"},
                }
            ],
            "host_selection_retry_max_attempts": 10,
        }
        return {
            "match": {"prefix": "/", **match},
            "route": {"cluster": "web", "timeout": "15s", "retry_policy": retry},
        }

    is_get = {"headers": [{"name": ":method", "string_match": {"exact": "GET"}}]}
    filters: list[dict[str, Any]] = []
    if plan.limited:
        filters.append(
            {
                "name": "envoy.filters.http.adaptive_concurrency",
                "typed_config": {
                    "@type": f"{_TYPE}.http.adaptive_concurrency.v3.AdaptiveConcurrency",
                    "gradient_controller_config": {
                        "sample_aggregate_percentile": {"value": 50},
                        "concurrency_limit_params": {"concurrency_update_interval": "0.1s"},
                        "min_rtt_calc_params": {
                            "jitter": {"value": 10},
                            "interval": "60s",
                            "request_count": 50,
                        },
                    },
                    "enabled": {"default_value": True, "runtime_key": "adaptive"},
                },
            }
        )
    filters.append({"name": "router", "typed_config": {"@type": f"{_TYPE}.http.router.v3.Router"}})
    manager: dict[str, Any] = {
        "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "out",
        "route_config": {
            "virtual_hosts": [
                {"name": "web", "domains": ["*"], "routes": [route(is_get, _ANY), route({}, _SURE)]},
            ]
        },
        "http_filters": filters,
    }
    if plan.patience:
        manager["request_headers_timeout"] = manager["request_timeout"] = f"{plan.patience}s"
        manager["stream_idle_timeout"] = f"{plan.patience}s"
    listener = {
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": "out",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": plan.port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return json.dumps({"version_info": str(plan.version), "resources": [listener]})


def envoy(plan: Plan, folder: Path) -> str:
    """The bootstrap: its listener comes from a file that is watched, its endpoints are here."""
    hosts = []
    for address in plan.endpoints:
        host, _, port = address.rpartition(":")
        where = {"socket_address": {"address": host, "port_value": int(port)}}
        hosts.append({"endpoint": {"address": where}})
    # Its budget counts retries that are under way: with it some of what is under way at a kill fails.
    budget = {"retry_budget": {"budget_percent": {"value": 20}, "min_retry_concurrency": 10}}
    retries: dict[str, Any] = budget if plan.budget else {"max_retries": 100}
    cluster = {
        "name": "web",
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "outlier_detection": {
            "consecutive_5xx": 5,
            "interval": "0.5s",
            "base_ejection_time": "1s",
            "max_ejection_time": "1s",
            "max_ejection_percent": 100 if plan.limited else 10,
        },
        "circuit_breakers": {"thresholds": [{"max_requests": 1024, "max_pending_requests": 1024, **retries}]},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0 if plan.limited else 50}},
        "load_assignment": {"cluster_name": "web", "endpoints": [{"lb_endpoints": hosts}]},
    }
    source = {"path": str(folder / "listener.json"), "watched_directory": {"path": str(folder)}}
    overload: dict[str, Any] = {}
    if plan.files:
        most = {
            "@type": "type.googleapis.com/envoy.extensions.resource_monitors."
            "downstream_connections.v3.DownstreamConnectionsConfig",
            "max_active_downstream_connections": plan.files // 3,
        }
        monitor = {"name": "envoy.resource_monitors.global_downstream_max_connections", "typed_config": most}
        overload = {"overload_manager": {"resource_monitors": [monitor]}}
    return json.dumps(
        {
            **overload,
            "node": {"id": "bench", "cluster": "bench"},
            "static_resources": {"clusters": [cluster]},
            "dynamic_resources": {"lds_config": {"path_config_source": source, "resource_api_version": "V3"}},
            "layered_runtime": {"layers": [{"name": "static", "static_layer": {}}]},
        }
    )
