%% What a shell user types, against a real C-node.
-module(esp_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [take/1]).

-define(NAME, t_esp).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        i_shows_the_processes_of_a_c_node,
        i_shows_those_of_every_c_node,
        i_shows_the_processes_that_it_is_given,
        info_is_what_is_known_of_a_process,
        info_of_a_local_process_is_process_info,
        who_is_not_there_is_undefined,
        a_c_node_that_is_not_there_is_an_error
    ].

init_per_suite(Config) ->
    [{c_node, esp_test_c_node:start(?NAME)} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop(proplists:get_value(c_node, Config)).

c_node() -> esp_node:node(?NAME).

printed(Fun) ->
    ct:capture_start(),
    ok = Fun(),
    ct:capture_stop(),
    lists:flatten(ct:capture_get([])).

has(Text, Part) ->
    string:find(Text, Part) =/= nomatch orelse ct:fail({no, Part, in, Text}).

i_shows_the_processes_of_a_c_node(_) ->
    Text = printed(fun() -> esp:i(?NAME) end),
    [has(Text, Part) || Part <- [atom_to_list(c_node()), "Initial Call", "Total"]],
    [has(Text, atom_to_list(Name)) || Name <- [rex, net_kernel, logger_proxy, erlangsp]],
    has(Text, pid_to_list(rpc:call(c_node(), erlang, whereis, [rex]))),
    Text2 = printed(fun() -> esp:i(c_node()) end),
    has(Text2, "logger_proxy").

i_shows_those_of_every_c_node(_) ->
    Second = rpc_SUITE:start_node(t_esp_second, #{}),
    Text = printed(fun() -> esp:i() end),
    has(Text, atom_to_list(c_node())),
    has(Text, atom_to_list(esp_node:node(t_esp_second))),
    rpc_SUITE:stop_node(Second).

i_shows_the_processes_that_it_is_given(_) ->
    Template = coop_flow:pipeline([coop:native(plus, sums, plus1, #{})]),
    {ok, Coop} = coop:start_link(Template, #{node => ?NAME}),
    Pids = [Head | _] = esp_test_lib:pids(Coop),
    Text = printed(fun() -> esp:i(Pids) end),
    [has(Text, pid_to_list(Pid)) || Pid <- Pids],
    %% a head whose parent is this process
    {links, Links} = lists:keyfind(links, 1, esp:info(Head)),
    true = lists:member(self(), Links),
    ok = coop:stop(Coop).

info_is_what_is_known_of_a_process(_) ->
    Pid = spawn_link(c_node(), acts, hold, [self()]),
    [{holding, Pid}] = take(1),
    Ref = monitor(process, Pid),
    Info = esp:info(Pid),
    Self = self(),
    Leader = group_leader(),
    [{_, {acts, hold, 1}}, {_, [Self]}, {_, [Self]}, {_, Leader}, {_, 0}] =
        [lists:keyfind(K, 1, Info) || K <- [initial_call, links, monitored_by, group_leader, message_queue_len]],
    {memory, Bytes} = lists:keyfind(memory, 1, Info),
    true = Bytes > 0,
    unlink(Pid),
    Pid ! go,
    normal = esp_test_lib:down(Ref),
    undefined = esp:info(Pid),
    {registered_name, rex} = lists:keyfind(registered_name, 1, esp:info({rex, ?NAME})).

info_of_a_local_process_is_process_info(_) ->
    {registered_name, init} = lists:keyfind(registered_name, 1, esp:info(whereis(init))).

who_is_not_there_is_undefined(_) ->
    undefined = esp:info({nobody, ?NAME}).

a_c_node_that_is_not_there_is_an_error(_) ->
    {error, noconnection} = esp:i(t_esp_nowhere),
    {error, noconnection} = esp:info({rex, t_esp_nowhere}).
