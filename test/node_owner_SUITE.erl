%% The owner of a C-node: the two start and end together.
-module(node_owner_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2, take/1, mailbox/0, down/1]).
-import(esp_test_lib, [plugin/0, os_pids/1, kill_c_node/1]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        start_link_returns_when_the_c_node_answers,
        stop_leaves_no_os_process,
        a_killed_c_node_ends_its_owner_with_the_signal,
        a_lost_connection_ends_both,
        a_missing_binary_is_an_error,
        a_binary_that_ends_is_an_error_with_its_status,
        a_binary_that_is_never_ready_is_killed,
        a_cookie_of_its_own_connects,
        wrong_options_are_named,
        a_plugin_that_cannot_be_loaded_is_an_error,
        a_restarted_c_node_has_the_plugins_of_the_one_before,
        a_default_c_node_that_a_user_supervises_is_not_started_twice,
        waiting_for_a_c_node_is_bounded
    ].

init_per_suite(Config) ->
    [{started, esp_test_lib:start_app()} | Config].

end_per_suite(Config) ->
    esp_test_lib:stop_app(proplists:get_value(started, Config)).

start(Name) -> start(Name, #{}).
start(Name, Opts) ->
    process_flag(trap_exit, true),
    {ok, Owner} = esp_node:start_link(Name, Opts),
    Owner.

start_link_returns_when_the_c_node_answers(_) ->
    Owner = start(t_up),
    CNode = esp_node:node(t_up),
    true = lists:member(CNode, nodes(hidden)),
    pong = net_adm:ping(CNode),
    Plugins = gen_server:call({erlangsp, CNode}, plugins),
    true = is_list(Plugins),
    {ok, CNode} = esp_node:await(t_up, 0),
    ok = gen_server:stop(Owner).

stop_leaves_no_os_process(_) ->
    Owner = start(t_stop),
    [_] = os_pids(t_stop),
    ok = gen_server:stop(Owner),
    [] = os_pids(t_stop),
    false = lists:member(esp_node:node(t_stop), nodes(hidden)).

a_killed_c_node_ends_its_owner_with_the_signal(_) ->
    Owner = start(t_kill),
    kill_c_node(t_kill),
    [{'EXIT', Owner, {signal, 9}}] = take(1).

a_lost_connection_ends_both(_) ->
    Owner = start(t_lost),
    true = erlang:disconnect_node(esp_node:node(t_lost)),
    [{'EXIT', Owner, noconnection}] = take(1),
    eventually(c_node_gone, fun() -> os_pids(t_lost) =:= [] end).

a_missing_binary_is_an_error(_) ->
    process_flag(trap_exit, true),
    {error, {no_executable, "/no/such"}} = esp_node:start_link(t_no, #{binary => "/no/such"}).

script(Config, Name, Text) ->
    File = filename:join(proplists:get_value(priv_dir, Config), Name),
    ok = file:write_file(File, ["#!/bin/sh\n", Text]),
    ok = file:change_mode(File, 8#755),
    File.

a_binary_that_ends_is_an_error_with_its_status(Config) ->
    process_flag(trap_exit, true),
    Exits = script(Config, "exits", "read cookie; exit 3\n"),
    {error, {exit_status, 3}} = esp_node:start_link(t_exits, #{binary => Exits}),
    Dies = script(Config, "dies", "kill -TERM $$\n"),
    {error, {signal, 15}} = esp_node:start_link(t_dies, #{binary => Dies}).

a_binary_that_is_never_ready_is_killed(Config) ->
    process_flag(trap_exit, true),
    File = filename:join(proplists:get_value(priv_dir, Config), "pid"),
    Silent = script(Config, "silent", ["echo $$ > ", File, ".tmp; mv ", File, ".tmp ", File,
                                       "\nwhile read line; do :; done; exec sleep 1000\n"]),
    {error, start_timeout} = esp_node:start_link(t_silent, #{binary => Silent, start_timeout => 500}),
    {ok, Pid} = file:read_file(File),
    eventually(silent_gone, fun() ->
        os:cmd("kill -0 " ++ string:trim(binary_to_list(Pid)) ++ " 2>/dev/null && echo alive") =:= []
    end).

a_cookie_of_its_own_connects(_) ->
    Owner = start(t_cookie, #{cookie => another_cookie}),
    pong = net_adm:ping(esp_node:node(t_cookie)),
    ok = gen_server:stop(Owner).

wrong_options_are_named(_) ->
    {error, {bad_option, {grace, soon}}} = esp_node:start_link(t_bad, #{grace => soon}),
    {error, {bad_option, {cookie, "c"}}} = esp_node:start_link(t_bad, #{cookie => "c"}),
    {error, {bad_option, [nonsense]}} = esp_node:start_link(t_bad, #{nonsense => self()}).

a_plugin_that_cannot_be_loaded_is_an_error(_) ->
    Owner = start(t_plugin),
    {error, {no_app, no_such_app}} = esp_node:load_plugin(t_plugin, {no_such_app, p}),
    {error, {no_plugin, no_such}} = esp_node:load_plugin(t_plugin, no_such),
    {error, _} = esp_node:load_plugin(t_plugin, "/no/such.so"),
    ok = esp_node:load_plugin(t_plugin, plugin()),
    ok = esp_node:load_plugin(t_plugin, sums),
    ok = gen_server:stop(Owner),
    {error, noconnection} = esp_node:load_plugin(t_plugin, plugin()).

a_restarted_c_node_has_the_plugins_of_the_one_before(_) ->
    process_flag(trap_exit, true),
    {ok, Sup} = esp_node_sup:start_link(t_again, #{plugins => [plugin()]}),
    ok = esp_node:load_plugin(t_again, sums),
    [{_, Owner, _, _}] = supervisor:which_children(Sup),
    Ref = monitor(process, Owner),
    kill_c_node(t_again),
    {signal, 9} = down(Ref),
    eventually(up_again, fun() -> esp_node:load_plugin(t_again, sums) =:= ok end),
    unlink(Sup),
    exit(Sup, shutdown),
    eventually(c_node_gone, fun() -> os_pids(t_again) =:= [] end).

a_default_c_node_that_a_user_supervises_is_not_started_twice(_) ->
    process_flag(trap_exit, true),
    {ok, Sup} = esp_node_sup:start_link(esp, #{}),
    [{_, Owner, _, _}] = supervisor:which_children(Sup),
    Ref = monitor(process, Owner),
    ok = sys:suspend(Sup),
    kill_c_node(esp),
    {signal, 9} = down(Ref),
    %% Gone, and not back before its supervisor goes on.
    ok = esp_sup:start_default_node(),
    false = lists:keymember({esp_node, esp}, 1, supervisor:which_children(esp_sup)),
    ok = sys:resume(Sup),
    {ok, _} = esp_node:await(esp, 10_000),
    [{_, Owner2, _, _}] = supervisor:which_children(Sup),
    {ok, _, Owner2} = esp_nodes:find(esp),
    unlink(Sup),
    exit(Sup, shutdown),
    eventually(c_node_gone, fun() -> os_pids(esp) =:= [] end).

waiting_for_a_c_node_is_bounded(_) ->
    {error, {not_up, t_never}} = esp_node:await(t_never, 50),
    T = coop_flow:pipeline([coop:native(a, sums, plus1, #{})]),
    {error, {not_up, t_never}} = coop:start_link(T, #{node => t_never, start_timeout => 50}),
    [] = mailbox().
