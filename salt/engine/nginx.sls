# engine/nginx.sls: nginx in front of the engine, with connections to it that are kept.
# Pillar: engine:nginx (mapping), engine:config:engine:listen. Left out unless engine:nginx:enabled.
#
# Without keep-alive every request leaves a connection in TIME_WAIT. The file is tried by nginx alone before it
# replaces the old one, and nginx is reloaded, never restarted, and only where systemd runs it.
{%- from "engine/map.jinja" import engine, listen, settings, is_booted with context %}
{%- if engine.nginx.enabled %}
{%- if engine.nginx.package %}

engine-nginx-pkg-installed:
  pkg.installed:
    - name: {{ engine.nginx.package | json }}
    - require_in:
      - file: engine-nginx-file-managed
{%- endif %}

engine-nginx-file-managed:
  file.managed:
    - name: {{ (engine.nginx.dir ~ "/purgeline.conf") | json }}
    - source: salt://engine/files/nginx.conf.j2
    - template: jinja
    - context:
        nginx: {{ engine.nginx | json }}
        listen: {{ listen | json }}
        body_max_bytes: {{ settings.get("body_max_bytes", 8388608) }}
        idle_timeout_s: {{ settings.get("idle_timeout_s", 75) }}
    - user: root
    - group: root
    - mode: "0644"
    - makedirs: true
    # "$2" is the new file; a configuration around it makes it whole.
    - check_cmd: >-
        sh -c 'dir=$(mktemp -d) && trap "rm -rf $dir" EXIT &&
        printf "pid %s/pid; error_log stderr; events {} http { include %s; }" "$dir" "$2" >"$dir/nginx.conf" &&
        "$1" -t -q -c "$dir/nginx.conf"' check {{ engine.nginx.program }}
{%- if is_booted %}

engine-nginx-service-running:
  service.running:
    - name: nginx
    - enable: true
    - reload: true
    - watch:
      - file: engine-nginx-file-managed
{%- endif %}
{%- else %}

engine-nginx-file-absent:
  file.absent:
    - name: {{ (engine.nginx.dir ~ "/purgeline.conf") | json }}
{%- endif %}
