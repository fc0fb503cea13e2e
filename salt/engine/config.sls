# engine/config.sls: settings of the engine. Restarts and reloads nothing: `inv reload` does.
# Pillar: engine:config (mapping): the tables of engine.toml, as in salt/pillar.example. A missing one fails the state.
#
# The new file is checked by the release that will read it before it replaces the old one: the one named in
# engine:release when it is unpacked, else the current one. A host without any says so and is not checked.
{%- from "engine/map.jinja" import engine, shared with context %}
{%- set wanted = engine.root ~ "/releases/" ~ engine.release if engine.release else engine.root ~ "/current" %}
{%- set places = [wanted, engine.root ~ "/current"] %}
{%- set checkers = [] %}
{%- for place in places if salt["file.file_exists"](place ~ "/venv/bin/python") %}
{%- do checkers.append(place ~ "/venv/bin/python") %}
{%- endfor %}

include:
  - engine.install

engine-config-file-managed:
  file.managed:
    - name: {{ (shared ~ "/engine.toml") | json }}
    - source: salt://engine.toml.j2
    - template: jinja
    - context:
        config: {{ engine.config | json(sort_keys=False) }}
    - user: {{ engine.owner | json }}
    - group: {{ engine.group | json }}
    - mode: "0640"
{%- if checkers %}
    # Relative paths in it are relative to the folder that the engine runs in.
    - check_cmd: sh -c 'cd "$1" && exec "$2" -I -m engine check-config "$3"' check {{ shared }} {{ checkers[0] }}
{%- endif %}
    - require:
      - sls: engine.install
{%- if not checkers %}

engine-config-test-show-notification:
  test.show_notification:
    - text: >-
        {{ shared }}/engine.toml is not checked: no release is unpacked yet. `reload` refuses one that cannot be used.
{%- endif %}
