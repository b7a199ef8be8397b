%% One native task, in a co-op that an ordinary supervisor keeps alive.
%%
%%   caller ---> hello_coop: [ plus2 ] ---> caller
-module(hello).

-behaviour(application).
-behaviour(supervisor).

-export([call/1]).
-export([relay/1]).
-export([start/2]).
-export([stop/1]).
-export([init/1]).

%% @doc Asks the supervised co-op, as one would a gen_server.
-spec call(integer()) -> {ok, integer()} | {error, term()}.
call(Number) ->
    coop:call(hello_coop, Number, 5_000).

%% @doc Sends the numbers through a co-op of its own, whose receiver is the
%% caller. Once flush/2 has returned, all results have arrived.
-spec relay([integer()]) -> [integer()].
relay(Numbers) ->
    {ok, Coop} = coop:start_link(template(), #{receiver => self(), tag => hello}),
    [ok = coop:relay_data(Coop, Number) || Number <- Numbers],
    ok = coop:flush(Coop, 5_000),
    coop:stop(Coop),
    results().

results() ->
    receive
        {hello, Result} -> [Result | results()]
    after 0 -> []
    end.

template() ->
    coop_flow:pipeline([coop:native(plus2, {hello, hello}, plus2, #{})]).

start(_Type, _Args) ->
    supervisor:start_link({local, hello_sup}, ?MODULE, []).

stop(_State) ->
    ok.

init([]) ->
    Coop = coop:child_spec(#{id => hello_coop, template => template(), name => hello_coop}),
    {ok, {#{strategy => one_for_one}, [Coop]}}.
