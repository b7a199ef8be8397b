%% What others may call on a C-node, as its option `rpc' has it, and what they may
%% send that makes no sense at all (doc/rpc.md). Others are a peer; this VM is the
%% owner.
-module(rpc_policy_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([log/2]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [take/1, down/1]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        a_policy_that_is_none_is_refused,
        by_default_others_call_what_is_in_the_table,
        with_inspect_others_may_look,
        with_inspect_others_may_do_nothing,
        with_none_others_may_not_even_look,
        in_every_way_a_call_is_refused_alike,
        what_is_not_there_is_undef_whatever_the_policy,
        the_owner_may_call_everything,
        a_native_task_may_call_its_own_node,
        the_connection_itself_works_whatever_the_policy,
        nobody_passes_for_the_owner,
        refusals_are_logged_and_not_too_often,
        nonsense_is_answered_or_dropped
    ].

init_per_suite(Config) ->
    Started = esp_test_lib:start_app(),
    Plugins = [esp_test_c_node:plugin(P) || P <- [exposes, talks]],
    Owners = [
        rpc_SUITE:start_node(name(Policy), maps:merge(#{plugins => Plugins}, Option))
     || {Policy, Option} <- [
            {default, #{}}, {inspect, #{rpc => inspect}}, {none, #{rpc => none}}
        ]
    ],
    Peer = esp_test_c_node:start_peer(?MODULE),
    [{started, Started}, {owners, Owners}, {peer, Peer} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop_peer(proplists:get_value(peer, Config)),
    lists:foreach(fun rpc_SUITE:stop_node/1, proplists:get_value(owners, Config)),
    esp_test_lib:stop_app(proplists:get_value(started, Config)).

name(Policy) -> list_to_atom("t_policy_" ++ atom_to_list(Policy)).
c_node(Policy) -> esp_node:node(name(Policy)).

%% On the peer, which is not the owner.
there(Config, M, F, A) ->
    {_, Peer} = proplists:get_value(peer, Config),
    erpc:call(Peer, M, F, A).

their(Config, Policy, M, F, A) ->
    there(Config, rpc, call, [c_node(Policy), M, F, A]).

not_allowed(M, F, A) ->
    {badrpc, {'EXIT', {{not_allowed, {M, F, length(A)}}, [{M, F, A, []}]}}}.

looks() ->
    [
        {erlang, node, []},
        {erlang, nodes, []},
        {erlang, registered, []},
        {erlang, processes, []},
        {erlang, whereis, [rex]},
        {erlang, memory, []},
        {erlang, statistics, [run_queue]},
        {erlang, system_info, [process_count]},
        {erlang, function_exported, [erlang, node, 0]},
        {erlang, apply, [erlang, node, []]},
        {code, ensure_loaded, [erlang]},
        {code, all_loaded, []},
        {erlang, module_info, [exports]},
        {geometry, module_info, [exports]},
        {application, which_applications, []},
        {sys, get_status, [rex]},
        {observer_backend, vsn, []},
        {observer_backend, sys_info, []},
        {observer_backend, socket_info, []},
        {os, getpid, []}
    ].

acts() ->
    Nobody = list_to_pid("<0.0.0>"),
    [
        {geometry, area, [6, 7]},
        {acts, nothing, []},
        {timer, sleep, [1]},
        {dbg, do_relay, [Nobody, Nobody]},
        {erlang, exit, [Nobody, kill]},
        {erlang, exit, [why]},
        {erlang, throw, [ball]},
        {init, stop, []},
        {init, stop, [1]}
    ].

a_policy_that_is_none_is_refused(_) ->
    [
        {error, {bad_option, {rpc, Bad}}} = esp_node:start_link(t_policy, #{rpc => Bad})
     || Bad <- [some, true, 1, "everything"]
    ].

by_default_others_call_what_is_in_the_table(Config) ->
    42 = their(Config, default, geometry, area, [6, 7]),
    CNode = c_node(default),
    CNode = their(Config, default, erlang, node, []).

with_inspect_others_may_look(Config) ->
    [
        {false, MFA} = {is_refused(their(Config, inspect, M, F, A)), MFA}
     || {M, F, A} = MFA <- looks()
    ],
    Rex = their(Config, inspect, erlang, whereis, [rex]),
    [_ | _] = their(Config, inspect, erlang, process_info, [Rex]).

is_refused({badrpc, _}) -> true;
is_refused(_) -> false.

with_inspect_others_may_do_nothing(Config) ->
    [
        {MFA, Refused} = {MFA, their(Config, inspect, M, F, A)}
     || {M, F, A} = MFA <- acts(), Refused <- [not_allowed(M, F, A)]
    ],
    Refused = not_allowed(geometry, area, [6, 7]),
    Refused = their(Config, inspect, erlang, apply, [geometry, area, [6, 7]]),
    Refused = their(Config, inspect, erlang, apply, [fun geometry:area/2, [6, 7]]).

with_none_others_may_not_even_look(Config) ->
    [
        {MFA, Refused} = {MFA, their(Config, none, M, F, A)}
     || {M, F, A} = MFA <- looks() ++ acts(), Refused <- [not_allowed(M, F, A)]
    ].

in_every_way_a_call_is_refused_alike(Config) ->
    N = c_node(inspect),
    {M, F, A} = {acts, nothing, []},
    Refused = not_allowed(M, F, A),
    {badrpc, {'EXIT', Reason}} = Refused,
    {NotAllowed, Stack} = Reason,
    Refused = there(Config, rpc, block_call, [N, M, F, A]),
    Leader = group_leader(),
    Refused = there(Config, gen_server, call, [{rex, N}, {call, M, F, A, Leader}]),
    {rex, Refused} = there(Config, ?MODULE, tell_rex, [N, {call, M, F, A, user}]),
    {[Refused], []} = there(Config, rpc, multicall, [[N], M, F, A]),
    [{error, {exception, NotAllowed, Stack}}] = there(Config, erpc, multicall, [[N], M, F, A]),
    Reason = there(Config, ?MODULE, end_of, [N, M, F, A]),
    %% casts that are not carried out
    {Pid, Ref} = spawn_monitor(fun() -> receive after infinity -> ok end end),
    there(Config, erpc, cast, [N, erlang, exit, [Pid, cast]]),
    there(Config, rpc, eval_everywhere, [[N], erlang, exit, [Pid, cast]]),
    Refused = there(Config, rpc, block_call, [N, M, F, A]),
    exit(Pid, still_here),
    still_here = down(Ref).

tell_rex(N, Request) ->
    {rex, N} ! {self(), Request},
    receive
        Answer -> Answer
    end.

end_of(N, M, F, A) ->
    {_, Ref} = spawn_monitor(N, M, F, A),
    receive
        {'DOWN', Ref, process, _, Reason} -> Reason
    end.

what_is_not_there_is_undef_whatever_the_policy(Config) ->
    [
        {badrpc, {'EXIT', {undef, [{M, F, A, []}]}}} = their(Config, Policy, M, F, A)
     || Policy <- [default, inspect, none],
        {M, F, A} <- [{os, cmd, ["true"]}, {erlang, halt, []}, {acts, nothing, [1]}]
    ].

the_owner_may_call_everything(_) ->
    [
        begin
            42 = rpc:call(c_node(Policy), geometry, area, [6, 7]),
            42 = rpc:block_call(c_node(Policy), geometry, area, [6, 7]),
            ok = rpc:call(c_node(Policy), timer, sleep, [1])
        end
     || Policy <- [default, inspect, none]
    ].

a_native_task_may_call_its_own_node(_) ->
    Template = coop_flow:pipeline([coop:native(talk, talks, talk, #{})]),
    {ok, Coop} = coop:start_link(Template, #{node => name(none), receiver => self()}),
    ok = coop:relay_data(Coop, {rpc, c_node(none), fun geometry:area/2, [6, 7]}),
    [{ok, 42}] = take(1),
    ok = coop:stop(Coop).

the_connection_itself_works_whatever_the_policy(Config) ->
    [
        begin
            pong = there(Config, net_adm, ping, [N]),
            {rex, N, N} = there(Config, ?MODULE, tell_rex, [N, {sbcast, net_kernel, message}]),
            {features_reply, N, [erpc]} = there(Config, ?MODULE, tell_rex, [N, features_request])
        end
     || Policy <- [default, inspect, none], N <- [c_node(Policy)]
    ].

%% Neither by what a message says of its sender, nor by what it says itself.
nobody_passes_for_the_owner(_) ->
    Owner = self(),
    CNode = esp_test_dist:start_c_node('t_policy_forged@127.0.0.1', [
        "--rpc", "none", "--owner", atom_to_list(node())
    ]),
    Peer = esp_test_dist:dial(CNode, 't_policy_forger@127.0.0.1'),
    Me = esp_test_dist:pid(Peer, 1),
    Request = {call, erlang, exit, [Owner, forged], Owner},
    esp_test_dist:send(Peer, {6, Owner, '', rex}, {'$gen_cast', setelement(1, Request, cast)}),
    esp_test_dist:send(Peer, {6, Me, '', rex}, {'$gen_cast', setelement(1, Request, cast)}),
    esp_test_dist:send(Peer, {6, Owner, '', rex}, {Me, Request}),
    {{22, _, Me}, {rex, {badrpc, {'EXIT', {{not_allowed, {erlang, exit, 2}}, _}}}}} =
        esp_test_dist:next(Peer),
    esp_test_dist:close(Peer),
    esp_test_dist:stop_c_node(CNode).

refusals_are_logged_and_not_too_often(Config) ->
    {_, Peer} = proplists:get_value(peer, Config),
    Owner = rpc_SUITE:start_node(name(log), #{rpc => none}),
    N = c_node(log),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => {self(), N}}),
    Refused = not_allowed(erlang, nodes, []),
    [Refused = their(Config, log, erlang, nodes, []) || _ <- lists:seq(1, 100)],
    Text = iolist_to_binary([atom_to_list(Peer), " may not call erlang:nodes/0"]),
    [{logged, warning, Text} = Logged || Logged <- take(10)],
    N = rpc:call(N, erlang, node, []),
    [] = esp_test_lib:mailbox(),
    ok = logger:remove_handler(?MODULE),
    rpc_SUITE:stop_node(Owner).

log(#{level := Level, msg := {string, Text}, meta := #{pid := Pid}}, #{config := {To, N}}) when
    node(Pid) =:= N
->
    To ! {logged, Level, iolist_to_binary(Text)};
log(_, _) ->
    ok.

nonsense_is_answered_or_dropped(Config) ->
    N = c_node(default),
    Before = lists:sort(esp_test_c_node:processes(name(default))),
    Self = self(),
    Deep = lists:foldl(fun(_, T) -> {T} end, x, lists:seq(1, 5_000)),
    Messages = [
        Message
     || Request <- [
            {call},
            {call, a, b, []},
            {call, a, b, [], user, more},
            {call, [], {}, <<>>, 1.5},
            {cast, a, b, [x | y], self()},
            {cast, 1, 2, 3, 4},
            {block_call, erlang, node, [], [], []},
            {sbcast, "name", message},
            {sbcast, nobody},
            {send, 1, 2},
            {send, nobody, message},
            {call, erlang, node, lists:duplicate(100_000, x), user},
            {call, erlang, Deep, [Deep | Deep], Deep},
            {call, list_to_atom(lists:duplicate(255, $a)), x, [], user},
            Deep,
            [],
            fun erlang:node/0,
            fun() -> ok end
        ],
        Message <- [
            Request,
            {Self, Request},
            {'$gen_cast', Request},
            {'$gen_call', Self, Request},
            {'$gen_call', {Self, x}, Request},
            {'$gen_call', {Self, [alias | make_ref()]}, Request},
            {'$gen_call', Request, Request},
            {Request, Request}
        ]
    ],
    [{Name, N} ! Message || Message <- Messages, Name <- [rex, net_kernel]],
    {_, Peer} = proplists:get_value(peer, Config),
    [
        begin
            Ref = spawn_request(N, M, F, A, Options),
            receive
                {spawn_reply, Ref, _, _} -> ok
            end
        end
     || {M, F, A, Options} <- [
            {erpc, execute_call, lists:duplicate(4, Deep), []},
            {erpc, execute_call, [], []},
            {erpc, execute_cast, [x, y | [z]], []},
            {erpc, execute_cast, [erlang, node, lists:duplicate(100_000, x)], []},
            {nope, nope, lists:duplicate(100_000, x), []},
            {erlang, apply, [Deep, Deep, Deep], []},
            {erlang, apply, [erlang, apply, [erlang, apply, [erlang, apply, []]]], []}
        ]
    ],
    Applied = lists:foldl(fun(_, A) -> [erlang, apply, A] end, [erlang, node, []], lists:seq(1, 3_000)),
    {badrpc, {'EXIT', system_limit}} = rpc:block_call(N, erlang, apply, Applied),
    N = rpc:block_call(N, erlang, node, []),
    pong = rpc:call(Peer, net_adm, ping, [N]),
    N = there(Config, rpc, call, [N, erlang, node, []]),
    _ = esp_test_lib:mailbox(),
    esp_test_c_node:settled(name(default), Before),
    _ = esp_test_lib:mailbox(),
    ok.
