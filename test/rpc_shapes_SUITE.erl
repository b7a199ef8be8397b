%% Every way to call a function on a node, tried on a real Erlang node and on a
%% C-node: what comes of it has the same shape (protocol.md, section 8). Of a stack
%% the function that failed is compared, not what lies beneath it, nor files and
%% lines.
-module(rpc_shapes_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-compile([export_all, nowarn_export_all]).

-define(NAME, t_rpc_shapes).
-define(NOWHERE, 'nowhere@127.0.0.1').

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        erpc_calls,
        rpc_calls,
        calls_of_apply,
        calls_that_fail_in_the_function,
        block_calls,
        calls_of_many_nodes,
        requests_answered_later,
        casts,
        names_on_many_nodes,
        what_c_nodes_and_old_nodes_send_to_rex,
        spawns,
        spawn_requests,
        raw_requests_of_erpc,
        calls_that_take_too_long,
        calls_that_are_killed,
        calls_that_lose_the_connection
    ].

init_per_suite(Config) ->
    CNode = esp_test_c_node:start(?NAME),
    {Peer, Node} = esp_test_c_node:start_peer(?MODULE),
    [{started, CNode}, {peer, {Peer, Node}}, {oracle, Node} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop_peer(proplists:get_value(peer, Config)),
    esp_test_c_node:stop(proplists:get_value(started, Config)).

%%% The comparison

%% Rows are {What, fun(Node) -> term()}.
same(Config, Rows) ->
    Oracle = proplists:get_value(oracle, Config),
    CNode = esp_node:node(?NAME),
    Wrong = [
        {What, #{erlang => Right, c_node => Ours}}
     || {What, Row} <- Rows,
        Right <- [shape(Oracle, outcome(Row, Oracle))],
        Ours <- [shape(CNode, outcome(Row, CNode))],
        Right =/= Ours
    ],
    [] = Wrong,
    [] = esp_test_lib:mailbox().

outcome(Row, Node) ->
    try
        {value, Row(Node)}
    catch
        Class:Reason -> {Class, Reason}
    end.

shape(Node, Node) ->
    the_node;
shape(Node, Pid) when is_pid(Pid), node(Pid) =:= Node ->
    a_pid_there;
shape(_Node, Ref) when is_reference(Ref) ->
    a_ref;
shape(Node, [{M, F, A, Location} | _] = Stack) when is_atom(F), is_list(Location) ->
    case lists:all(fun is_frame/1, Stack) of
        true -> [{shape(Node, M), F, shape(Node, A), Location -- lines(Location)}];
        false -> [shape(Node, X) || X <- Stack]
    end;
shape(Node, [Head | Tail]) ->
    [shape(Node, Head) | shape(Node, Tail)];
shape(Node, Tuple) when is_tuple(Tuple) ->
    list_to_tuple([shape(Node, X) || X <- tuple_to_list(Tuple)]);
shape(_Node, Other) ->
    Other.

is_frame({_, _, A, Location}) -> (is_list(A) orelse is_integer(A)) andalso is_list(Location);
is_frame(_) -> false.

lines(Location) -> [L || {Key, _} = L <- Location, Key =:= file orelse Key =:= line].

many(Count) -> lists:duplicate(Count, x).

%%% The rows

erpc_calls(Config) ->
    same(Config, [
        {{M, F, A}, fun(N) -> erpc:call(N, M, F, A) end}
     || {M, F, A} <- functions()
    ]),
    same(Config, [
        {an_external_fun, fun(N) -> erpc:call(N, fun erlang:node/0) end},
        {with_a_timeout, fun(N) -> erpc:call(N, fun erlang:node/0, 5000) end},
        {one_that_is_not_there, fun(N) -> erpc:call(N, fun nope:nope/0, 5000) end},
        {no_such_node, fun(_) -> erpc:call(?NOWHERE, erlang, node, []) end},
        {a_bad_timeout, fun(N) -> erpc:call(N, erlang, node, [], x) end},
        {a_bad_module, fun(N) -> erpc:call(N, 1, node, []) end}
    ]).

rpc_calls(Config) ->
    same(Config, [
        {{M, F, A}, fun(N) -> rpc:call(N, M, F, A) end}
     || {M, F, A} <- functions()
    ]),
    same(Config, [
        {with_a_timeout, fun(N) -> rpc:call(N, erlang, node, [], 5000) end},
        {no_such_node, fun(_) -> rpc:call(?NOWHERE, erlang, node, []) end},
        {what_is_known_of_a_process, fun(N) ->
            rpc:pinfo(rpc:call(N, erlang, whereis, [rex]), registered_name)
        end}
    ]).

functions() ->
    [
        {erlang, node, []},
        {erlang, whereis, [nobody]},
        {erlang, is_process_alive, [not_a_pid]},
        {nope, nope, [1]},
        {erlang, nope, [1]},
        {erlang, node, [1, 2, 3]},
        {erlang, node, [a | b]},
        {erlang, node, many(300)},
        {erlang, node, many(1023)},
        {erlang, node, many(1024)},
        {erlang, node, many(70_000)},
        {nope, node, many(1024)},
        {erlang, throw, [ball]},
        {erlang, throw, [{'EXIT', ball}]},
        {erlang, throw, [{badrpc, ball}]},
        {erlang, exit, [why]},
        {erlang, exit, [normal]},
        {erlang, exit, [kill]},
        {erlang, exit, [{shutdown, x}]},
        {erlang, error, [bad]},
        {erlang, error, [undef]},
        {erlang, error, [bad, [args]]}
    ].

calls_of_apply(Config) ->
    same(Config, [
        {A, fun(N) -> erpc:call(N, erlang, apply, A) end}
     || A <- [
            [erlang, node, []],
            [nope, nope, [1]],
            [erlang, whereis, [7]],
            [erlang, node, [a | b]],
            [1, node, []],
            [erlang, "node", []],
            [erlang, node, x],
            [erlang, node, many(1024)],
            [fun erlang:node/0, []],
            [fun erlang:node/1, []],
            [fun nope:nope/1, [1]],
            [fun erlang:node/0, [a | b]],
            [foo, []],
            ["foo", [1]]
        ]
    ]).

calls_that_fail_in_the_function(Config) ->
    Self = self(),
    same(Config, [
        {{M, F, A}, fun(N) -> erpc:call(N, M, F, A) end}
     || {M, F, A} <- [
            {erlang, whereis, [7]},
            {erlang, node, [not_a_pid]},
            {erlang, nodes, [what]},
            {erlang, exit, [not_a_pid, x]},
            {erlang, function_exported, [a, b, -1]},
            {erlang, function_exported, [erlang, node, 0]},
            {erlang, garbage_collect, [Self]},
            {erlang, is_process_alive, [Self]},
            {erlang, process_info, [Self]},
            {erlang, process_info, [not_a_pid]},
            {erlang, process_info, [not_a_pid, links]},
            {erlang, system_info, [nonsense]},
            {erlang, statistics, [nonsense]},
            {erlang, memory, [nonsense]},
            {timer, sleep, [-1]},
            {timer, sleep, [1.5]},
            {timer, sleep, [x]},
            {code, ensure_loaded, [1]}
        ]
    ]),
    same(Config, [
        {process_info, fun(N) ->
            erpc:call(N, erlang, process_info, [erpc:call(N, erlang, whereis, [rex]), nonsense])
        end},
        {its_keys, fun(N) ->
            Info = erpc:call(N, erlang, process_info, [erpc:call(N, erlang, whereis, [rex])]),
            [Key || {Key, _} <- Info]
        end}
    ]).

block_calls(Config) ->
    same(Config, [
        {{M, F, A}, fun(N) -> rpc:block_call(N, M, F, A) end}
     || {M, F, A} <- functions()
    ]),
    same(Config, [
        {with_a_timeout, fun(N) -> rpc:block_call(N, erlang, node, [], 5000) end},
        {a_short_one, fun(N) -> rpc:block_call(N, timer, sleep, [100], 10) end},
        {the_server_has_survived, fun(N) -> rpc:block_call(N, erlang, node, []) end},
        {the_leader, fun(N) ->
            Leader = group_leader(),
            Leader =:= rpc:block_call(N, erlang, group_leader, [])
        end},
        {no_such_node, fun(_) -> rpc:block_call(?NOWHERE, erlang, node, []) end}
    ]).

calls_of_many_nodes(Config) ->
    same(Config, [
        {{M, F, A}, fun(N) ->
            {rpc:multicall([N, ?NOWHERE, N], M, F, A), erpc:multicall([N, ?NOWHERE, N], M, F, A)}
        end}
     || {M, F, A} <- functions(), length2(A) < 100
    ]),
    same(Config, [
        {short, fun(N) ->
            {
                rpc:multicall([N], timer, sleep, [infinity], 20),
                erpc:multicall([N], timer, sleep, [infinity], 20)
            }
        end},
        {a_fun, fun(N) -> erpc:multicall([N, N], fun erlang:node/0) end}
    ]).

length2([_ | T]) -> 1 + length2(T);
length2(_) -> 0.

requests_answered_later(Config) ->
    same(Config, [
        {async_call, fun(N) -> rpc:yield(rpc:async_call(N, erlang, node, [])) end},
        {async_error, fun(N) -> rpc:yield(rpc:async_call(N, erlang, error, [x])) end},
        {not_yet, fun(N) ->
            Key = rpc:async_call(N, timer, sleep, [100]),
            {rpc:nb_yield(Key, 1), rpc:nb_yield(Key, 10_000)}
        end},
        {send_request, fun(N) -> erpc:receive_response(erpc:send_request(N, erlang, node, [])) end},
        {error, fun(N) -> erpc:receive_response(erpc:send_request(N, erlang, error, [x])) end},
        {exit, fun(N) -> erpc:receive_response(erpc:send_request(N, erlang, exit, [x]), 5000) end},
        {wait, fun(N) ->
            Id = erpc:send_request(N, timer, sleep, [100]),
            {erpc:wait_response(Id, 1), erpc:wait_response(Id, 10_000)}
        end},
        {check, fun(N) ->
            Id = erpc:send_request(N, erlang, throw, [ball]),
            receive
                Message -> erpc:check_response(Message, Id)
            end
        end},
        {too_late, fun(N) ->
            erpc:receive_response(erpc:send_request(N, timer, sleep, [infinity]), 10)
        end}
    ]).

casts(Config) ->
    Exits = fun(Cast) ->
        fun(N) ->
            {Pid, Ref} = spawn_monitor(fun() -> receive after infinity -> ok end end),
            Returned = Cast(N, [Pid, cast]),
            {Returned, esp_test_lib:down(Ref)}
        end
    end,
    same(Config, [
        {erpc, Exits(fun(N, A) -> erpc:cast(N, erlang, exit, A) end)},
        {erpc_multicast, Exits(fun(N, A) -> erpc:multicast([N, ?NOWHERE], erlang, exit, A) end)},
        {rpc, Exits(fun(N, A) -> rpc:cast(N, erlang, exit, A) end)},
        {old, Exits(fun(N, A) ->
            gen_server:cast({rex, N}, {cast, erlang, exit, A, group_leader()})
        end)},
        {everywhere, Exits(fun(N, A) -> rpc:eval_everywhere([N], erlang, exit, A) end)},
        {nowhere, fun(_) -> {erpc:cast(?NOWHERE, a, b, []), rpc:cast(?NOWHERE, a, b, [])} end},
        {undef, fun(N) -> {erpc:cast(N, no, such, []), rpc:cast(N, no, such, [])} end}
    ]).

names_on_many_nodes(Config) ->
    same(Config, [
        {abcast, fun(N) -> rpc:abcast([N], nobody, message) end},
        {sbcast, fun(N) -> rpc:sbcast([N, ?NOWHERE], net_kernel, message) end},
        {sbcast_to_nobody, fun(N) -> rpc:sbcast([N], nobody, message) end},
        {send_to_nobody, fun(N) -> told(N, {send, nobody, message}) end},
        {multi_server_call, fun(N) -> rpc:multi_server_call([N, ?NOWHERE], nobody, message) end},
        {ping, fun(N) -> net_adm:ping(N) end}
    ]).

what_c_nodes_and_old_nodes_send_to_rex(Config) ->
    Leader = group_leader(),
    Call = fun(Request) -> fun(N) -> gen_server:call({rex, N}, Request, 5000) end end,
    same(Config, [
        {Tag, Call({Tag, M, F, A, Leader})}
     || Tag <- [call, block_call], {M, F, A} <- [{1, node, []}, {erlang, "node", []} | functions()]
    ]),
    same(Config, [
        {features, fun(N) -> told(N, features_request) end},
        {ei, fun(N) -> told(N, {call, erlang, node, [], user}) end},
        {ei_undef, fun(N) -> told(N, {call, no, such, [1], user}) end},
        {ei_exit, fun(N) -> told(N, {call, erlang, exit, [x], user}) end},
        {leader, fun(N) ->
            Leader =:= gen_server:call({rex, N}, {call, erlang, group_leader, [], Leader})
        end},
        {unknown, fun(N) -> gen_server:call({rex, N}, {what, is, this}, 10) end}
    ]).

%% What rex answers a plain message.
told(N, Request) ->
    {rex, N} ! {self(), Request},
    [Answer] = esp_test_lib:take(1),
    Answer.

spawns(Config) ->
    Ends = fun(M, F, A) ->
        fun(N) ->
            {Pid, Ref} = spawn_monitor(N, M, F, A),
            {node(Pid), esp_test_lib:down(Ref)}
        end
    end,
    same(Config, [
        {{M, F, A}, Ends(M, F, A)}
     || {M, F, A} <- functions(),
        %% what raised it is the emulator's own code there
        not lists:member(F, [throw, error]),
        %% the VM itself refuses
        not is_improper(A)
    ]),
    same(Config, [
        {badarg, Ends(erlang, whereis, [7])},
        {error, fun(N) ->
            {_, {bad, [_ | _]}} = (Ends(erlang, error, [bad]))(N),
            ok
        end},
        {throw, fun(N) ->
            {_, {{nocatch, ball}, _}} = (Ends(erlang, throw, [ball]))(N),
            ok
        end},
        {an_external_fun, fun(N) ->
            {Pid, Ref} = spawn_monitor(N, fun erlang:node/0),
            {Pid, esp_test_lib:down(Ref)}
        end},
        {linked, fun(N) ->
            Old = process_flag(trap_exit, true),
            Pid = spawn_link(N, erlang, exit, [why]),
            [Message] = esp_test_lib:take(1),
            process_flag(trap_exit, Old),
            {Pid, Message}
        end},
        {nowhere, fun(_) ->
            {_, Ref} = spawn_monitor(?NOWHERE, erlang, node, []),
            esp_test_lib:down(Ref)
        end}
    ]).

is_improper([_ | T]) -> is_improper(T);
is_improper(T) -> T =/= [].

spawn_requests(Config) ->
    Replies = fun(Options) ->
        fun(N) ->
            Ref = spawn_request(N, timer, sleep, [infinity], Options),
            receive
                {spawn_reply, Ref, ok, Pid} ->
                    unlink(Pid),
                    Down = monitor(process, Pid),
                    exit(Pid, kill),
                    esp_test_lib:down(Down),
                    lists:keymember(monitor, 1, [{X, x} || X <- Options, is_atom(X)]) andalso
                        esp_test_lib:down(Ref);
                {spawn_reply, Ref, error, Reason} ->
                    {error, Reason}
            end
        end
    end,
    same(Config, [
        {Options, Replies(Options)}
     || Options <- [
            [],
            [link],
            [monitor],
            [link, monitor],
            [{priority, low}, {fullsweep_after, 5}, {min_heap_size, 100}],
            [{message_queue_data, on_heap}],
            [{no_such_option, 1}]
        ]
    ]).

%% Past erpc's own checks, as another peer could ask.
raw_requests_of_erpc(Config) ->
    Ref = make_ref(),
    Ends = fun(M, F, A) ->
        fun(N) ->
            {_, Monitor} = spawn_monitor(N, M, F, A),
            esp_test_lib:down(Monitor)
        end
    end,
    same(Config, [
        {A, Ends(erpc, execute_call, [Ref | A])}
     || A <- [
            [erlang, node, []],
            [1, node, []],
            [erlang, "x", []],
            [erlang, node, x],
            [erlang, node, [a | b]],
            [erlang, node, many(1024)],
            [erlang, whereis, [7]]
        ]
    ]).

calls_that_take_too_long(Config) ->
    same(Config, [
        {erpc, fun(N) -> erpc:call(N, timer, sleep, [infinity], 10) end},
        {rpc, fun(N) -> rpc:call(N, timer, sleep, [infinity], 10) end},
        {at_once, fun(N) -> erpc:call(N, timer, sleep, [infinity], 0) end}
    ]).

calls_that_are_killed(Config) ->
    Sleep = [timer, sleep, [infinity]],
    same(Config, [
        {{What, Reason}, fun(N) -> during(Call, N, fun([Pid]) -> exit(Pid, Reason) end) end}
     || {What, Call} <- [
            {erpc, fun(N) -> apply(erpc, call, [N | Sleep]) end},
            {rpc, fun(N) -> apply(rpc, call, [N | Sleep]) end},
            {old, fun(N) -> gen_server:call({rex, N}, list_to_tuple([call | Sleep] ++ [self()])) end}
        ],
        Reason <- [boom, kill, {shutdown, x}]
    ]).

%% From a node of its own: the C-node's owner would take it for lost.
calls_that_lose_the_connection(Config) ->
    {Peer, Caller} = esp_test_c_node:start_peer(?FUNCTION_NAME),
    same(Config, [
        {Kind, fun(N) -> peer:call(Peer, ?MODULE, cut_off, [Kind, N], 20_000) end}
     || Kind <- [erpc, rpc, spawn]
    ]),
    esp_test_c_node:stop_peer({Peer, Caller}).

cut_off(Kind, N) ->
    during(fun(To) -> waits(Kind, To) end, N, fun([_]) -> erlang:disconnect_node(N) end).

%% What comes of a call that waits, if that is done to its process there.
during(Call, N, Do) ->
    Before = processes(N),
    {_, Ref} = spawn_monitor(fun() -> exit({answer, outcome(Call, N)}) end),
    esp_test_lib:eventually(a_process_for_the_call, fun() ->
        case processes(N) -- Before of
            [Pid] -> Do([Pid]) =:= true;
            Other -> Other
        end
    end),
    {answer, Answer} = esp_test_lib:down(Ref),
    Answer.

%% Each answer has the process that gave it; no two do.
processes(N) ->
    Then = erpc:call(N, erlang, processes, []),
    Now = erpc:call(N, erlang, processes, []),
    [Pid || Pid <- Then, lists:member(Pid, Now)].

waits(erpc, N) ->
    erpc:call(N, timer, sleep, [infinity]);
waits(rpc, N) ->
    rpc:call(N, timer, sleep, [infinity]);
waits(spawn, N) ->
    {_, Ref} = spawn_monitor(N, timer, sleep, [infinity]),
    esp_test_lib:down(Ref).
